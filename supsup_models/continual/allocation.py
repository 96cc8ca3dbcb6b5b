"""Which mask is for these images, or is it time for a new one? Decided from unlabelled images alone (scenario NNs).

The published test (Wortsman et al. 2020, section 3.4): with nu = softmax(-dH/dalpha) at alpha = 1/k, data for which
`k * max(nu) < 1 + epsilon` is nobody's, and a mask is allocated. By itself it fails twice: one mask alone always looks
uncertain (k * max(nu) = 1), and where tasks resemble each other it takes new data for an old task's, whose mask is then
trained away. So what it says is verified: a mask **serves** images if their entropy under it is near the level that it
showed on the data it was trained on, measured against a mask that never learned anything. A mask in training that
serves its data is kept whatever the test says, which is where masks would proliferate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import Mask, MaskMatrix
from supsup_models.errors import InferenceError
from supsup_models.inference import Entropy, mask_derivatives, preference
from supsup_models.networks import MaskedNetwork


@dataclass(frozen=True)
class AllocationConfig:
    """How masks are chosen, allocated and merged when nobody names the task.

    `verify=False` is the published test by itself, every `check_every` batches; with it, a few images of every batch
    are also watched, and the test is made at once when they stop looking like the mask's own. `tolerance` is how far
    entropy may be on the way from a mask's own level (0) to that of an untrained mask (1) for images to count as its
    own; `agreement` is the fraction of images that two masks must label alike to be merged, `buffer` how many recent
    unlabelled batches that is judged on, and `shortlist` how many masks are compared with the one that is put away.
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
    """A mask that may be for the images, and the mean entropy of its own data under it, in nats."""

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
        return float(Entropy().cost(model(images, mask)).mean())


def mask_preference(
    model: MaskedNetwork, matrix: MaskMatrix, current: Mask | None, images: Tensor
) -> NDArray[np.float64]:
    """-dH/dalpha at alpha = 1/k of every mask of the matrix and, last, of the one in training: `(k,)` float64.

    The mask in training changes with every batch, so it stands beside the packed matrix instead of being copied in.
    """
    k = len(matrix) + (current is not None)
    flat = matrix.counts().astype(np.float32) if len(matrix) else np.zeros(model.spec.bits, np.float32)
    alone = MaskMatrix(model.spec, () if current is None else (current,))
    if current is not None:
        flat += current.flat()
    weights = torch.from_numpy(flat / np.float32(k)).to(model.weights).mul_(model.weights)
    downhill = preference(mask_derivatives(model, weights, images, Entropy())).float().cpu().numpy()
    return np.concatenate([each.dot(downhill) for each in (matrix, alone) if len(each)]).astype(np.float64)


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(values) normalised to sum 1, without overflow."""
    shifted = np.exp(values - values.max())
    return np.asarray(shifted / shifted.sum())


class Allocator:
    """Chooses masks for unlabelled images. It holds no state, and no call of it takes a label or a task."""

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
        """The mask for images `(b, inputs)`: a row of `matrix`, `len(matrix)` for the current mask, or None for a new.

        `levels` are the own levels of the matrix's masks, `untrained` is the mask that would be allocated next.
        """
        k = len(matrix) + (current is not None)
        if not k:
            return Choice(None, 0.0)
        nu = softmax(mask_preference(self._model, matrix, None if current is None else current.mask, images))
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
        """Whether images look to a mask like its own data; `ceiling` is their mean entropy under an untrained mask."""
        found = mean_entropy(self._model, candidate.mask, images)
        return found - candidate.level < self._config.tolerance * (ceiling - candidate.level)
