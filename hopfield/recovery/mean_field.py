"""A recipe that follows soft states: the entropy's gradient, read through the couplings, is the cue."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import RuleError
from hopfield.recovery.candidates import Candidates
from hopfield.recovery.interface import (
    Entropy,
    RecoverableMemory,
    RecoveryRecipe,
    Trace,
    entropy_gradient,
    mean_entropy,
)


@dataclass(frozen=True)
class MeanFieldRecipe(RecoveryRecipe):
    """Mean-field annealing of a soft state s under the memory's field and a cue from the data.

    At each step the entropy's gradient at s, normalised, joins a running cue; the cue is read through the couplings
    (`field`, which projects it onto what is stored), and `s = tanh(beta (h(s) + weight * cue))` with both fields scaled
    to unit mean square. beta grows geometrically from `first_beta` to `last_beta`, which turns the soft state into a
    pattern; the cue's weight falls linearly to zero. Ends with synchronous recall from the signs.

    With `restarts`, that is done again and again with fresh data, each time with what was found before taken out of
    every field; each state found is then tried on `checks` batches, and the one of the lowest entropy is the answer. It
    ends early when that lies `decisive` robust standard deviations below the others' median, or nothing new is found
    for `patience` annealings.

    Quadratic couplings have mixtures of stored patterns as fixed points too (Amit, Gutfreund and Sompolinsky 1985).
    What is found with a field that does not lie along it (a cosine below `aligned`) is taken for one and passed over:
    it is no answer, and to take it out would take out a part of patterns that were not tried yet.

    Examples:
        >>> import torch
        >>> from hopfield import DualMemory, MeanFieldRecipe, PseudoInverse, patterns, recover
        >>> stored = patterns.random_patterns(6, 100, torch.Generator().manual_seed(0))
        >>> memory = DualMemory.of_patterns(stored, PseudoInverse())
        >>> found = recover(memory, lambda mask: ((2 * mask - 1 - stored[2]) ** 2).mean(), MeanFieldRecipe())
        >>> torch.equal(found.pattern, stored[2])
        True
    """

    steps: int = 30
    """Entropy evaluations of one annealing."""
    first_beta: float = 0.3
    last_beta: float = 10.0
    cue_weight: float = 2.0
    memory: float = 0.8
    """How much of the cue stays from step to step, in [0, 1)."""
    restarts: int = 1
    """Annealings at most; a single one is not checked, and has no confidence."""
    checks: int = 4
    """Entropy evaluations of each state found."""
    decisive: float = 5.0
    enough: int = 4
    """States needed before one can be decisive."""
    aligned: float = 0.0
    """Cosine of a state and its field from which the state counts as stored; 0 passes over nothing."""
    patience: int = 1
    """Annealings in a row that may find nothing new before the last one."""

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.first_beta <= self.last_beta or not 0 <= self.memory < 1:
            raise RuleError(f"expected steps >= 2, 0 < first_beta <= last_beta, memory in [0, 1), found {self}")
        if self.restarts < 1 or self.checks < 1 or self.enough < 3:
            raise RuleError(f"expected restarts >= 1, checks >= 1, enough >= 3, found {self}")
        if not 0 <= self.aligned < 1 or self.patience < 1:
            raise RuleError(f"expected aligned in [0, 1), patience >= 1, found {self}")

    def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
        """See `RecoveryRecipe.run`."""
        tried, in_vain = Candidates(initial), 0
        for _ in range(self.restarts):
            found = self._anneal(memory, entropy, initial, tried, trace)
            if self.restarts == 1:
                return found
            if tried.knows(found) or alignment(memory, found) < self.aligned:
                in_vain += 1
                if in_vain == self.patience:
                    break
                continue
            in_vain = 0
            tried.add(found, mean_entropy(entropy, found, self.checks, trace), self.checks)
            if len(tried) >= self.enough and tried.depth(tried.lowest(1)[0]) >= self.decisive:
                break
        return tried.answer(trace) if len(tried) else found

    def _anneal(
        self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, tried: Candidates, trace: Trace
    ) -> Tensor:
        state, cue = initial.clone(), torch.zeros_like(initial)
        for step in range(self.steps):
            share = step / (self.steps - 1)
            value, gradient = entropy_gradient(entropy, pt.to_soft_mask(state))
            cue = self.memory * cue - unit(gradient)
            # linear in the state up to the centre's constant, which the difference takes out
            heard = tried.without(memory.field(cue) - memory.field(torch.zeros_like(cue)))
            pull = unit(tried.without(memory.field(state))) + self.cue_weight * (1 - share) * unit(heard)
            state = torch.tanh(self.first_beta * (self.last_beta / self.first_beta) ** share * pull)
            trace.add(value, state)
        return settle(memory, pt.signs_or(state, initial_signs(initial)))


def unit(values: Tensor) -> Tensor:
    """Scaled to mean square 1; zeros stay."""
    return values / values.square().mean().sqrt().clamp(min=1e-30)


def initial_signs(state: Tensor) -> Tensor:
    """Signs of a soft state as -1/+1, where 0 is +1."""
    return (state >= 0).to(state.dtype) * 2 - 1


def alignment(memory: RecoverableMemory, state: Tensor) -> float:
    """Cosine of a state `(d,)` and its field: 1 at what projection couplings store, less at mixtures; 0 without one."""
    field = memory.field(state)
    return float(field @ state / (field.norm() * state.norm()).clamp(min=1e-30))


def settle(memory: RecoverableMemory, state: Tensor, sweeps: int = 50) -> Tensor:
    """Synchronous updates until nothing moves, or the last state after `sweeps`."""
    for _ in range(sweeps):
        following = pt.signs_or(memory.field(state), state)
        if torch.equal(following, state):
            break
        state = following
    return state
