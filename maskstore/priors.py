"""Priors: what encoder and decoder both know about a mask before a single bit is read.

A prior gives every bit of a layer a small integer context; bits of one context share one probability of being set. It
says nothing about the probabilities themselves: a codec measures and stores those.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore import kernels
from maskstore.errors import CodecError, UnknownPriorError
from maskstore.philox import Role, address_key, random_packed_bits
from maskstore.spec import MaskSpec


@dataclass(frozen=True)
class Contexts:
    """The context of every bit of one layer: a point on a grid of ordered levels x unordered classes.

    `ids[i] = level * classes + class`, shape `(size,)`, uint8. Neighbouring levels are expected to have similar
    probabilities, so a codec may merge them; classes are only labels. `levels` is a power of two. `directions` has +1
    or -1 for each class (default: all +1): an influence that bits of a row or a column share pushes bits of classes
    with opposite directions opposite ways.
    """

    ids: NDArray[np.uint8]
    levels: int
    classes: int
    directions: tuple[int, ...] = ()


class Prior(ABC):
    """Base of all priors: frozen dataclasses with an id, whose fields are their JSON configuration."""

    id: ClassVar[str]

    @abstractmethod
    def contexts(self, spec: MaskSpec, index: int) -> Contexts:
        """The contexts of the bits of layer `index` of `spec`, in C order."""

    def to_config(self) -> dict[str, Any]:
        """A JSON-ready dict: the id and the fields."""
        return {"id": self.id, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Uniform(Prior):
    """Nothing is known: all bits of a layer share one context (their density is still measured and coded)."""

    id: ClassVar[str] = "uniform"

    def contexts(self, spec: MaskSpec, index: int) -> Contexts:
        """One level, one class."""
        return Contexts(np.zeros(spec.layers[index].size, dtype=np.uint8), levels=1, classes=1)


@dataclass(frozen=True)
class SeededScores(Prior):
    """The mask was trained from scores, over weights, that came from this seed (`docs/format.md`, "Seeded streams").

    A trained mask mostly agrees with the sign of its initial score, the more so the larger that score was; and whether
    training switches a weight on or off leans on the weight's own sign. Levels are 64 bins of the initial score's
    magnitude, classes the four combinations 2 * (score > 0) + (weight > 0).
    """

    seed: int
    task: int
    """The stream of the task's initial scores."""

    id: ClassVar[str] = "seeded-scores"
    LEVELS: ClassVar[int] = 64

    def __post_init__(self) -> None:
        for name, value, bits in (("seed", self.seed, 64), ("task", self.task, 32)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
                raise CodecError(f"prior seeded-scores: expected {name} to be an integer in [0, 2**{bits}), "
                                 f"found {value!r:.40}")  # fmt: skip

    def contexts(self, spec: MaskSpec, index: int) -> Contexts:
        """64 levels of |score|, 4 classes of signs; gradients push a score along or against its weight's sign."""
        size = spec.layers[index].size
        signs = random_packed_bits(self.seed, Role.WEIGHT_SIGN, size, layer=index)
        scores = address_key(self.seed, Role.SCORE, index, self.task)
        ids: NDArray[np.uint8] = kernels.load().score_contexts(scores, signs, size)
        return Contexts(ids, levels=self.LEVELS, classes=4, directions=(-1, 1, -1, 1))


_PRIORS: dict[str, type[Prior]] = {prior.id: prior for prior in (Uniform, SeededScores)}


def prior_ids() -> tuple[str, ...]:
    """Ids of all priors this version knows."""
    return tuple(_PRIORS)


def prior_to_json(prior: Prior) -> str:
    """Compact JSON of a prior."""
    return json.dumps(prior.to_config(), separators=(",", ":"))


def prior_from_config(config: object) -> Prior:
    """The prior that a JSON object describes; UnknownPriorError, or CodecError for fields it does not take."""
    if not isinstance(config, Mapping) or not isinstance(config.get("id"), str):
        raise CodecError(f"a prior: expected a JSON object with an id, found {config!r:.80}")
    fields = {str(key): value for key, value in config.items() if key != "id"}
    try:
        prior = _PRIORS[config["id"]]
    except KeyError:
        raise UnknownPriorError(f"prior {config['id']!r:.40}: expected one of {', '.join(_PRIORS)}") from None
    try:
        return prior(**fields)
    except TypeError:
        raise CodecError(f"prior {prior.id}: expected its own fields, found {sorted(fields)!r:.80}") from None
