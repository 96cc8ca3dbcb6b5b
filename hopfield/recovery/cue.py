"""A recipe that looks once: the entropy's gradient is the cue, and the memory does the rest."""

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
from hopfield.recovery.mean_field import alignment, initial_signs, settle, unit


@dataclass(frozen=True)
class CueRecipe(RecoveryRecipe):
    """Recall from the entropy's gradient at the initial state, read on a few batches; no candidates are searched.

    1. Cue: minus the gradient of the entropy at the initial soft mask, summed over `calls` batches. Each gradient's
       entries are raised to `power`, which keeps few large ones from deciding alone, and normalised.
    2. The memory's field of the cue is the part of it along what is stored: the right pattern, and a little of all
       others. `condense` soft updates of slowly growing gain let the largest part outgrow the rest. They need no data.
    3. Synchronous updates of the signs until nothing moves. That is the answer.
    4. `contrasts` states are recalled from random cues. The entropies of the answer and of these, on one batch each,
       make `Recovery.confidence`; they do not change the answer. It is 0 where the answer is no stored pattern: it is
       not at rest, or its field does not lie along it (a cosine below `aligned`), as with mixtures of patterns.

    The number of evaluations is `calls + contrasts + 1` (`calls` without contrasts), however many patterns are stored.
    So the masks have to be such that the gradient points to them: weight masks are, neuron masks if they were trained
    for it (`supsup_models.hopsupsup.CueTraining`). The initial state has to be the one that they were trained for.

    Examples:
        >>> import torch
        >>> from hopfield import CueRecipe, HopfieldNetwork, PseudoInverse, patterns, recover
        >>> stored = patterns.random_patterns(60, 500, torch.Generator().manual_seed(0))
        >>> memory = HopfieldNetwork(500, PseudoInverse())
        >>> memory.store(stored)
        >>> found = recover(memory, lambda mask: ((2 * mask - 1)[:120] - stored[7, :120]).square().mean(), CueRecipe())
        >>> torch.equal(found.pattern, stored[7]), found.steps
        (True, 13)
    """

    calls: int = 8
    """Batches that the cue is read from."""
    condense: int = 60
    """Soft updates before the signs are taken; 0 takes those of the first field, which finds fewer of many patterns."""
    rising: bool = False
    """Whether the masks lie along the rise of the entropy, not along its fall."""
    power: float = 1.0
    """Of the absolute value of each entry of a gradient, in (0, 1]; 0.5 for weight masks, which have few large ones."""
    contrasts: int = 4
    """Other states whose entropies the answer's is held against; with fewer than 2 there is no confidence."""
    aligned: float = 0.95
    """Cosine of the answer and its field from which it counts as stored; 0 for memories other than the projection."""
    seed: int = 0
    """Of the random cues."""

    def __post_init__(self) -> None:
        if self.calls < 1 or min(self.contrasts, self.condense) < 0 or not 0 <= self.aligned < 1:
            raise RuleError(
                f"CueRecipe: expected calls >= 1, contrasts and condense >= 0, aligned in [0, 1), found {self}"
            )
        if not 0 < self.power <= 1:
            raise RuleError(f"CueRecipe: expected a power in (0, 1], found {self.power}")

    def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
        """See `RecoveryRecipe.run`."""
        soft, cue = pt.to_soft_mask(initial), torch.zeros_like(initial)
        rest = memory.field(torch.zeros_like(cue))  # the centre's constant, which the difference takes out
        for _ in range(self.calls):
            value, gradient = entropy_gradient(entropy, soft)
            slope = unit(gradient.sign() * gradient.abs() ** self.power)
            cue += slope if self.rising else -slope
            pull = memory.field(unit(cue)) - rest  # memories that are not linear take a state of a state's size
            trace.add(value, initial_signs(pull))
        answer = settle(memory, initial_signs(self._condensed(memory, pull, rest)))
        if not self.contrasts:
            return answer
        tried = Candidates(initial)
        for other in [answer, *self._others(memory, rest)]:
            if not tried.knows(other):
                tried.add(other, mean_entropy(entropy, other, 1, trace), 1)
        stored = torch.equal(pt.signs_or(memory.field(answer), answer), answer)
        if tried.lowest(1) == [0] and stored and alignment(memory, answer) >= self.aligned:
            tried.answer(trace)
        elif len(tried) >= 3:
            trace.confidence = 0.0
        return answer

    def _condensed(self, memory: RecoverableMemory, pull: Tensor, rest: Tensor) -> Tensor:
        """The state that soft updates make of the field: at a low gain all parts live on, and the largest grows."""
        state = unit(pull)
        for step in range(self.condense):
            gain = 1 + 2 * step / self.condense
            state = torch.tanh(gain * unit(memory.field(state) - rest))
        return state

    def _others(self, memory: RecoverableMemory, rest: Tensor) -> list[Tensor]:
        """States that random cues lead to."""
        generator = torch.Generator().manual_seed(self.seed)
        found = []
        for _ in range(self.contrasts):
            cue = torch.randn(rest.shape, generator=generator, dtype=torch.float32).to(rest)
            found.append(settle(memory, initial_signs(memory.field(cue) - rest)))
        return found
