"""The priors that know other masks of the bank."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from maskstore.errors import CodecError
from maskstore.masks import LayerSpec, Mask, MaskSpec, bits
from maskstore.priors.backbone import Backbone
from maskstore.priors.base import Contexts, Prior, Uniform
from maskstore.priors.kept_weights import KeptWeights
from maskstore.priors.seeded import SeededScores


@dataclass(frozen=True)
class Related(Prior):
    """Base of the priors that know other masks of the bank: how many of them have a bit set.

    Under `given` = SeededScores or KeptWeights the contexts are the product of both, with fewer levels of the
    magnitude. The other masks must need none themselves, so that reading one mask never decodes more than a fixed
    number of others.
    """

    given: Prior = field(default=Uniform(), kw_only=True)
    """What is known beside the other masks: Uniform, SeededScores or KeptWeights."""

    def __post_init__(self) -> None:
        if not isinstance(self.given, (Uniform, SeededScores, KeptWeights)):
            raise CodecError(
                f"prior {self.id}: expected uniform, seeded-scores or kept-weights beside it, found {self.given!r:.60}"
            )

    @property
    def alone(self) -> Prior:
        """What is known without the other masks."""
        return self.given

    @property
    def known(self) -> Backbone | None:
        """The weights that what is given has."""
        return self.given.known

    def over(self, backbone: Backbone | None, what: str = "prior") -> Prior:
        """The same, with the weights that what is given needs."""
        given = self.given.over(backbone, what)
        return self if given is self.given else replace(self, given=given)

    def to_config(self) -> dict[str, Any]:
        """The id and what else is given."""
        return {"id": self.id, "given": self.given.to_config()}

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """Levels of the count under Uniform; beside others, 2 or 4 classes of it times the classes of those."""
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

    The other mask must itself be coded without others, so rounds of pruning cannot refer to one another in a chain. To
    code them all against the best one, put them without a prior and run `maskstore compact`.

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
