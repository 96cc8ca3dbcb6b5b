"""Priors: what encoder and decoder both know about a mask before a single bit is read.

A prior gives every bit of a layer a small integer context; bits of one context share one probability of being set. It
says nothing about the probabilities themselves: a codec measures and stores those.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore import kernels
from maskstore._configured import Configured, from_config
from maskstore.errors import CodecError, CorruptError, UnknownPriorError
from maskstore.masks import LayerSpec, Mask, MaskSpec, bits
from maskstore.philox import Role, address_key, random_packed_bits


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


class Prior(Configured):
    """Base of all priors: frozen dataclasses with an id, whose fields are their JSON configuration."""

    needs: ClassVar[range] = range(1)
    """How many other masks it refers to."""

    @abstractmethod
    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """The contexts of the bits of layer `index` of `spec`, in C order; `bases` are the masks it refers to.

        `part`: of one block of the layer only (`maskstore.masks.Cut`).
        """

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose masks it refers to, as far as it was told."""
        return ()

    @property
    def alone(self) -> "Prior":
        """What it knows without other masks."""
        return self

    def check_bases(self, found: int) -> None:
        """CorruptError unless a record refers to as many masks as this prior needs."""
        if found not in self.needs:
            expected = " to ".join(str(n) for n in sorted({self.needs[0], self.needs[-1]}))
            raise CorruptError(f"prior {self.id}: expected {expected} masks that it refers to, found {found}")


@dataclass(frozen=True)
class Uniform(Prior):
    """Nothing is known: all bits of a layer share one context (their density is still measured and coded).

    Examples:
        >>> from maskstore import MaskSpec, Uniform
        >>> known = Uniform().contexts(MaskSpec({"fc1": (2, 3)}), 0)
        >>> known.ids, known.levels * known.classes
        (array([0, 0, 0, 0, 0, 0], dtype=uint8), 1)
    """

    id: ClassVar[str] = "uniform"

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """One level, one class."""
        return Contexts(np.zeros((part or spec.layers[index]).size, dtype=np.uint8), levels=1, classes=1)


@dataclass(frozen=True)
class SeededScores(Prior):
    """The mask was trained from scores, over weights, that came from this seed (`docs/format.md`, "Seeded streams").

    A trained mask mostly agrees with the sign of its initial score, the more so the larger that score was; and whether
    training switches a weight on or off leans on the weight's own sign. Levels are 64 bins of the initial score's
    magnitude, classes the four combinations 2 * (score > 0) + (weight > 0).

    Args:
        seed: The network's seed, an integer in [0, 2**64).
        task: Which stream of the seed the task's initial scores came from, an integer in [0, 2**32).

    Raises:
        CodecError: For a seed or task out of range.

    Examples:
        A bank needs a quarter of the bytes for a mask whose seed it knows:

        >>> import tempfile
        >>> import numpy as np
        >>> from maskstore import Mask, MaskBank, MaskSpec, SeededScores
        >>> from maskstore.philox import Role, random_uniform
        >>> spec = MaskSpec({"fc1": (300, 784)})
        >>> scores = random_uniform(7, Role.SCORE, spec.bits, layer=0, stream=0)  # where training began
        >>> trained = scores + 0.2 * np.random.default_rng(0).standard_normal(spec.bits)
        >>> mask = Mask.from_flat(trained > 0, spec)
        >>> with tempfile.TemporaryDirectory() as folder, MaskBank.create(f"{folder}/tasks.bank", spec) as bank:
        ...     bank.put("without", mask)
        ...     bank.put("with", mask, prior=SeededScores(seed=7, task=0))
        ...     print(*[round(8 * bank.info(name).coded_bytes / spec.bits, 2) for name in bank], "bits a parameter")
        1.0 0.26 bits a parameter
    """

    seed: int
    task: int

    id: ClassVar[str] = "seeded-scores"
    LEVELS: ClassVar[int] = 64

    def __post_init__(self) -> None:
        for name, value, limit in (("seed", self.seed, 64), ("task", self.task, 32)):
            value = value.item() if isinstance(value, np.generic) else value
            object.__setattr__(self, name, value)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << limit:
                raise CodecError(f"prior seeded-scores: expected {name} to be an integer in [0, 2**{limit}), "
                                 f"found {value!r:.40}")  # fmt: skip

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """64 levels of |score|, 4 classes of signs; gradients push a score along or against its weight's sign."""
        size, first = (part.size, part.flat_start) if part else (spec.layers[index].size, 0)
        signs = random_packed_bits(self.seed, Role.WEIGHT_SIGN, size, layer=index, start=first)
        scores = address_key(self.seed, Role.SCORE, index, self.task)
        ids: NDArray[np.uint8] = kernels.load().score_contexts(scores, signs, size, first)
        return Contexts(ids, levels=self.LEVELS, classes=4, directions=(-1, 1, -1, 1))


@dataclass(frozen=True)
class Related(Prior):
    """Base of the priors that know other masks of the bank: how many of them have a bit set.

    Under `given` = SeededScores the contexts are the product of both, with fewer levels of the score's magnitude. The
    other masks must need none themselves, so that reading one mask never decodes more than a fixed number of others.
    """

    given: Prior = field(default=Uniform(), kw_only=True)
    """What is known beside the other masks: Uniform or SeededScores."""

    def __post_init__(self) -> None:
        if not isinstance(self.given, (Uniform, SeededScores)):
            raise CodecError(f"prior {self.id}: expected uniform or seeded-scores beside it, found {self.given!r:.60}")

    @property
    def alone(self) -> Prior:
        """What is known without the other masks."""
        return self.given

    def to_config(self) -> dict[str, Any]:
        """The id and what else is given."""
        return {"id": self.id, "given": self.given.to_config()}

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """Levels of the count under Uniform; beside scores, 2 or 4 classes of it times the classes of the scores."""
        self.check_bases(len(bases))
        whole = spec.layers[index]
        here = part.packed if part else slice(None)
        size = part.size if part else whole.size
        counts = np.zeros(size, dtype=np.uint8)
        for mask in bases:
            counts += bits.unpack(mask.words[whole.packed][here], size)
        if isinstance(self.given, Uniform):
            return Contexts(counts, levels=1 << len(bases).bit_length(), classes=1)
        known = self.given.contexts(spec, index, part=part)
        groups = 2 if len(bases) == 1 else 4
        table = (np.arange(len(bases) + 1) * (groups - 1) * 2 + len(bases)) // (2 * len(bases))
        scores, level = known.ids % known.classes, known.ids // known.classes // groups
        ids = (level * groups + table.astype(np.uint8)[counts]) * known.classes + scores
        return Contexts(ids, known.levels // groups, known.classes * groups, known.directions * groups)


@dataclass(frozen=True)
class Reference(Related):
    """The mask is like that of another task: trained from the same start on similar data, or from where it ended.

    Args:
        task: The other task's name. It is empty in what is read from a bank, whose rows point to the mask itself.
        given: What is known beside the other mask: `Uniform()` or `SeededScores(...)`.

    Raises:
        CodecError: For a task that is no name, or another kind of prior beside it.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from maskstore import Mask, MaskBank, Reference
        >>> rng = np.random.default_rng(0)
        >>> first = rng.random((300, 784)) < 0.5
        >>> second = first ^ (rng.random((300, 784)) < 0.02)  # one bit in fifty differs
        >>> spec = Mask.from_dense({"fc1": first}).spec
        >>> with tempfile.TemporaryDirectory() as folder, MaskBank.create(f"{folder}/tasks.bank", spec) as bank:
        ...     bank.put("task-0", {"fc1": first})
        ...     bank.put("task-1", {"fc1": second}, prior=Reference("task-0"))
        ...     print(*[round(8 * info.coded_bytes / spec.bits, 2) for info in bank.infos()], "bits a parameter")
        1.0 0.14 bits a parameter
    """

    task: str = ""

    id: ClassVar[str] = "reference"
    needs: ClassVar[range] = range(1, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.task, str):
            raise CodecError(f"prior {self.id}: expected a task's name, found {self.task!r:.40}")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,) if self.task else ()


@dataclass(frozen=True)
class RunningMean(Related):
    """The mask is like those of 2 to 15 other tasks on average, as after a start from the mean of their scores.

    Args:
        of: The other tasks' names. It is empty in what is read from a bank, whose rows point to the masks themselves.
        given: What is known beside the other masks: `Uniform()` or `SeededScores(...)`.

    Raises:
        CodecError: For fewer than 2, more than 15 or equal names, or another kind of prior beside them.

    Examples:
        Masks that all differ from a common one, each in one bit of twenty:

        >>> import tempfile
        >>> import numpy as np
        >>> from maskstore import MaskBank, MaskSpec, RunningMean
        >>> rng = np.random.default_rng(0)
        >>> common = rng.random((300, 784)) < 0.5
        >>> tasks = {f"task-{i}": {"fc1": common ^ (rng.random((300, 784)) < 0.05)} for i in range(4)}
        >>> spec = MaskSpec({"fc1": (300, 784)})
        >>> with tempfile.TemporaryDirectory() as folder, MaskBank.create(f"{folder}/tasks.bank", spec) as bank:
        ...     for name, masks in tasks.items():
        ...         prior = RunningMean(("task-0", "task-1", "task-2")) if name == "task-3" else None
        ...         bank.put(name, masks, prior=prior)
        ...     print(*[round(8 * info.coded_bytes / spec.bits, 2) for info in bank.infos()], "bits a parameter")
        1.0 1.0 1.0 0.31 bits a parameter
    """

    of: tuple[str, ...] = ()

    id: ClassVar[str] = "running-mean"
    needs: ClassVar[range] = range(2, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = list(self.of) if isinstance(self.of, (tuple, list)) else []
        known = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        if not known or (self.of and len(names) not in self.needs):
            raise CodecError(f"prior {self.id}: expected 2 to 15 different tasks, found {self.of!r:.80}")
        object.__setattr__(self, "of", tuple(names))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order given."""
        return self.of


_PRIORS: dict[str, type[Prior]] = {prior.id: prior for prior in (Uniform, SeededScores, Reference, RunningMean)}


@lru_cache(maxsize=256)
def prior_to_json(prior: Prior) -> str:
    """Compact JSON of a prior, without the tasks that it refers to."""
    return json.dumps(prior.to_config(), separators=(",", ":"))


def prior_from_config(config: object) -> Prior:
    """The prior that a JSON object describes; UnknownPriorError, or CodecError for fields it does not take."""
    if isinstance(config, Mapping) and isinstance(given := config.get("given"), Mapping) and "given" not in given:
        config = {**config, "given": prior_from_config(given)}  # what is given has none itself: this ends any nesting
    return from_config(config, _PRIORS, "prior", UnknownPriorError)
