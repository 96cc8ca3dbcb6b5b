"""A recipe that follows soft states: the entropy's gradient, read through the couplings, is the cue."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.anneal.recover import Entropy, Recipe, RecoverableMemory, Trace, entropy_gradient
from hopfield.errors import RuleError


@dataclass(frozen=True)
class MeanFieldRecipe(Recipe):
    """Mean-field annealing of a soft state s under the memory's field and a cue from the data.

    At each step the entropy's gradient at s, normalised, joins a running cue; the cue is read through the couplings
    (`field`, which projects it onto what is stored), and `s = tanh(beta (h(s) + weight * cue))` with both fields scaled
    to unit mean square. beta grows geometrically from `first_beta` to `last_beta`, which turns the soft state into a
    pattern; the cue's weight falls linearly to zero. Ends with synchronous recall from the signs.
    """

    steps: int = 30
    """Entropy evaluations."""
    first_beta: float = 0.3
    last_beta: float = 10.0
    cue_weight: float = 2.0
    memory: float = 0.8
    """How much of the cue stays from step to step, in [0, 1)."""

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.first_beta <= self.last_beta or not 0 <= self.memory < 1:
            raise RuleError(f"expected steps >= 2, 0 < first_beta <= last_beta, memory in [0, 1), found {self}")

    def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
        """See `Recipe.run`."""
        state, cue = initial.clone(), torch.zeros_like(initial)
        for step in range(self.steps):
            share = step / (self.steps - 1)
            value, gradient = entropy_gradient(entropy, pt.to_soft_mask(state))
            cue = self.memory * cue - unit(gradient)
            # linear in the state up to the centre's constant, which the difference takes out
            heard = memory.field(cue) - memory.field(torch.zeros_like(cue))
            pull = unit(memory.field(state)) + self.cue_weight * (1 - share) * unit(heard)
            state = torch.tanh(self.first_beta * (self.last_beta / self.first_beta) ** share * pull)
            trace.add(value, state)
        return settle(memory, pt.signs_or(state, initial_signs(initial)))


def unit(values: Tensor) -> Tensor:
    """Scaled to mean square 1; zeros stay."""
    return values / values.square().mean().sqrt().clamp(min=1e-30)


def initial_signs(state: Tensor) -> Tensor:
    """Signs of a soft state as -1/+1, where 0 is +1."""
    return (state >= 0).to(state.dtype) * 2 - 1


def settle(memory: RecoverableMemory, state: Tensor, sweeps: int = 50) -> Tensor:
    """Synchronous updates until nothing moves, or the last state after `sweeps`."""
    for _ in range(sweeps):
        following = pt.signs_or(memory.field(state), state)
        if torch.equal(following, state):
            break
        state = following
    return state
