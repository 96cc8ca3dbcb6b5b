"""The recipe of the paper."""

from dataclasses import dataclass

from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import RuleError
from hopfield.recovery.interface import Entropy, RecoverableMemory, RecoveryRecipe, Trace, entropy_gradient
from hopfield.recovery.mean_field import initial_signs


@dataclass(frozen=True)
class PaperRecipe(RecoveryRecipe):
    """Gradient descent on `gamma (t/T) E(m) + (1 - t/T) H(m)` over real scores whose sign is the mask.

    Wortsman et al., "Supermasks in Superposition", NeurIPS 2020, section 3.5, with the settings of their code: the mask
    is the scores' sign, read straight-through; the scores start at the mean of the stored patterns; SGD with momentum
    and weight decay (without the decay single neurons of the start stay behind). The energy's weight rises linearly as
    in their code, where the talk prints `gamma ** (t/T)`. The gradient of E over mask bits is `-2 h`, as z = 2 m - 1.

    Examples:
        >>> import torch
        >>> from hopfield import DualMemory, PaperRecipe, patterns, recover
        >>> stored = patterns.random_patterns(3, 100, torch.Generator().manual_seed(0))
        >>> memory = DualMemory.of_patterns(stored)
        >>> found = recover(memory, lambda mask: ((2 * mask - 1 - stored[2]) ** 2).mean(), PaperRecipe())
        >>> torch.equal(found.pattern, stored[2])
        True
    """

    steps: int = 30
    """T, the number of batches; one entropy evaluation each."""
    rate: float = 500.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gamma: float = 1.5e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0 or not 0 <= self.momentum < 1:
            raise RuleError(f"PaperRecipe: expected steps >= 1, rate > 0, momentum in [0, 1), found {self}")

    def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
        """See `RecoveryRecipe.run`."""
        scores = initial.clone()
        velocity = scores.new_zeros(scores.shape)
        for step in range(1, self.steps + 1):
            share = step / self.steps
            state = initial_signs(scores)
            value, gradient = entropy_gradient(entropy, pt.to_soft_mask(state))
            gradient = (1 - share) * gradient - 2 * self.gamma * share * memory.field(state)
            velocity = self.momentum * velocity + gradient + self.weight_decay * scores
            scores = scores - self.rate * velocity
            trace.add(value, initial_signs(scores))
        return initial_signs(scores)
