"""Which mask is for these images, or is it time for a new one? Decided from unlabelled images alone (scenario NNs).

The published test (Wortsman et al. 2020, section 3.4): with nu = softmax(-dH/dalpha) at alpha = 1/k, data for which
`k * max(nu) < 1 + epsilon` belongs to no mask, and a new mask is allocated. By itself the test fails twice. One mask
alone always looks uncertain (k * max(nu) = 1), so masks proliferate. And where tasks resemble each other, it takes new
data for an old task's, whose mask is then overwritten in training.

So its answer is verified. A mask **serves** images if their entropy under it is near its **level**, the entropy of the
data that it was trained on, compared with that under a mask that never learned anything. A mask in training that serves
its data is kept, whatever the test says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskstore import Mask, MaskMatrix
from supsup_models.errors import InferenceError
from supsup_models.inference import Entropy, mask_derivatives, preference
from supsup_models.networks import MaskedNetwork, entropy


@dataclass(frozen=True)
class AllocationConfig:
    """How masks are chosen, allocated and merged when no batch comes with its task.

    Attributes:
        check_every: Batches between two choices.
        epsilon: The published test calls for a new mask where k * max(nu) < 1 + epsilon.
        budget: The most masks.
        verify: Whether the test's answer is verified. A few images of every batch are then watched as well, and a
            choice is made at once when they stop looking like the mask's own. Without it the published test decides.
        tolerance: How far the entropy of images may be on the way from a mask's own level (0) to that of an untrained
            mask (1) for the images to count as its own.
        merge: Whether masks that serve the same data are merged.
        agreement: The fraction of images that two masks must label alike to be merged.
        buffer: How many recent unlabelled batches that is judged on.
        shortlist: How many masks are compared with the one that is put away.

    Raises:
        InferenceError: A number is out of range.

    Examples:
        >>> from supsup_models import AllocationConfig
        >>> AllocationConfig(check_every=25, budget=10).tolerance
        0.25
    """

    check_every: int = 100
    epsilon: float = 1 / 8
    budget: int = 2500
    verify: bool = True
    tolerance: float = 0.25
    merge: bool = True
    agreement: float = 0.7
    buffer: int = 2
    shortlist: int = 8

    def __post_init__(self) -> None:
        if min(self.check_every, self.budget, self.buffer, self.shortlist) < 1:
            raise InferenceError(
                "allocation: expected check_every, budget, buffer and shortlist of at least 1, "
                f"found {self.check_every}, {self.budget}, {self.buffer} and {self.shortlist}"
            )
        if not (self.epsilon > 0 and 0 < self.tolerance < 1 and 0 < self.agreement <= 1):
            raise InferenceError(
                "allocation: expected epsilon > 0, 0 < tolerance < 1 and 0 < agreement <= 1, "
                f"found {self.epsilon}, {self.tolerance} and {self.agreement}"
            )


@dataclass(frozen=True)
class Candidate:
    """A mask that may be for the images, and its level: the mean entropy of its own data under it, in nats."""

    mask: Mask
    level: float


@dataclass(frozen=True)
class Choice:
    """`row` of the candidates, or None for a new mask; `certainty` is k * max(nu), 0 where there is no candidate."""

    row: int | None
    certainty: float


def mean_entropy(model: MaskedNetwork, mask: Mask, images: Tensor) -> float:
    """Mean entropy over all outputs, in nats, of images `(b, inputs)` under a mask."""
    with torch.no_grad():
        return float(entropy(model(images, mask)).mean())


def mask_preference(model: MaskedNetwork, matrix: MaskMatrix, current: Mask | None, images: Tensor) -> Tensor:
    """-dH/dalpha at alpha = 1/k of every mask of the matrix and, last, of the one in training: `(k,)` float64.

    The mask in training changes with every batch, so it stands beside the packed matrix instead of being copied in.
    """
    alone = MaskMatrix(model.spec, () if current is None else (current,))
    parts = [each for each in (matrix, alone) if len(each)]
    counts = sum(each.counts().astype(np.float32) for each in parts)
    mean = torch.from_numpy(np.asarray(counts / np.float32(sum(map(len, parts)))))
    weights = mean.to(model.weights).mul_(model.weights)
    downhill = preference(mask_derivatives(model, weights, images, Entropy())).float().cpu().numpy()
    return torch.from_numpy(np.concatenate([each.dot(downhill) for each in parts])).double()


def label_agreement(model: MaskedNetwork, one: Mask, other: Mask, images: Tensor) -> float:
    """Fraction of images `(b, inputs)` that two masks give the same likeliest output."""
    with torch.no_grad():
        same = model(images, one).argmax(dim=1) == model(images, other).argmax(dim=1)
    return float(same.float().mean())


class Allocator:
    """Chooses masks for unlabelled images. It holds no state, and no method takes a label or a task.

    Args:
        model: The network.
        config: How masks are chosen.

    Examples:
        The mask of the images' own task is chosen; for images of another task a new one is called for:

        >>> from maskstore import MaskMatrix
        >>> from supsup_models import AllocationConfig, Allocator, MaskedNetwork, Recipe, RMSProp
        >>> from supsup_models import open_stream, train_task
        >>> from supsup_models.continual import Candidate, mean_entropy
        >>> *known, stranger = open_stream("permuted-digits", tasks=3)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=50, classes=10, seed=0)
        >>> matrix, levels, recipe = MaskMatrix(model.spec), [], Recipe("quick", RMSProp(4e-4))
        >>> for task in known:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=50)
        ...     matrix.append(task.name, one.mask)
        ...     levels.append(mean_entropy(model, one.mask, task.train.images(slice(0, 128))))
        >>> allocator = Allocator(model, AllocationConfig())
        >>> untrained = model.mask_of(model.initial_scores(2))
        >>> for task in (known[1], stranger):
        ...     images = task.test.images(slice(0, 64))
        ...     print(allocator.choose(matrix, levels, None, untrained, images).row)
        1
        None
    """

    def __init__(self, model: MaskedNetwork, config: AllocationConfig) -> None:
        self._model = model
        self._config = config

    def choose(
        self,
        matrix: MaskMatrix,
        levels: Sequence[float],
        current: Candidate | None,
        untrained: Mask,
        images: Tensor,
    ) -> Choice:
        """The mask for a batch of images.

        Args:
            matrix: The masks that were put away.
            levels: For each of them the mean entropy of its own data, in nats.
            current: The mask in training, if there is one.
            untrained: The mask that would be allocated next.
            images: `(b, inputs)`.

        Returns:
            A row of the matrix, `len(matrix)` for the mask in training, or None for a new one.
        """
        k = len(matrix) + (current is not None)
        if not k:
            return Choice(None, 0.0)
        nu = mask_preference(self._model, matrix, None if current is None else current.mask, images).softmax(dim=0)
        best, certainty = int(nu.argmax()), float(k * nu.max())
        if k >= self._config.budget:
            return Choice(best, certainty)
        certain = certainty >= 1 + self._config.epsilon
        if not self._config.verify:
            return Choice(best if certain else None, certainty)
        # The test's answer if it is certain, then the mask in training, then its best guess: the first that serves.
        order = [best] if current is None else [best, len(matrix)] if certain else [len(matrix), best]
        ceiling = mean_entropy(self._model, untrained, images)
        for row in order:
            candidate = current if row == len(matrix) else Candidate(matrix[row], levels[row])
            if candidate is not None and self.serves(candidate, images, ceiling):
                return Choice(row, certainty)
        return Choice(None, certainty)

    def serves(self, candidate: Candidate, images: Tensor, ceiling: float) -> bool:
        """Whether images look to a mask like its own data.

        Args:
            candidate: The mask.
            images: `(b, inputs)`.
            ceiling: Mean entropy of the images under an untrained mask, in nats.
        """
        found = mean_entropy(self._model, candidate.mask, images)
        return found - candidate.level < self._config.tolerance * (ceiling - candidate.level)

    def find_twin(
        self, mask: Mask, others: Iterable[tuple[str, Candidate]], images: Tensor, untrained: Mask
    ) -> str | None:
        """The name of the first of `others` that serves a mask's own images as the mask itself does; None if none does.

        Two masks trained from different scores on the same data share few bits, so their outputs are compared. The
        other mask must be as sure of the images as of its own data, and both must label most of them alike. Each
        condition alone is fooled: the first by masks that are sure and wrong, the second by tasks with few classes.

        Args:
            mask: The mask that the images belong to.
            others: Names and masks, in the order in which they are tried.
            images: `(b, inputs)`.
            untrained: A mask that never learned anything.
        """
        ceiling = mean_entropy(self._model, untrained, images)
        for name, candidate in others:
            if (
                self.serves(candidate, images, ceiling)
                and label_agreement(self._model, mask, candidate.mask, images) >= self._config.agreement
            ):
                return name
        return None
