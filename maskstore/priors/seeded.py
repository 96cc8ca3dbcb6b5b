"""The prior of masks whose scores and weights came from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore import kernels
from maskstore.errors import CodecError
from maskstore.masks import LayerSpec, Mask, MaskSpec
from maskstore.philox import Role, address_key, random_packed_bits
from maskstore.priors.base import Contexts, Prior


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
