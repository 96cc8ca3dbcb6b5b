"""A recipe that scales: stored patterns are tried in the order in which the cue suggests them."""

import math
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.anneal.mean_field import initial_signs, settle, unit
from hopfield.anneal.recover import Entropy, Recipe, RecoverableMemory, Trace, entropy_gradient
from hopfield.errors import RuleError


@dataclass(frozen=True)
class SearchRecipe(Recipe):
    """Annealed recall from a cue, again and again, each time with what was tried before taken out of the state.

    1. Cue: the entropy's gradient at the initial soft mask, over `cue_calls` batches.
    2. Candidate: the cue, less its projection onto all candidates so far, is condensed by mean-field steps with growing
       beta (what was tried is taken out of every field), and settles in the memory itself. The entropy of the
       candidate on one batch is noted.
    3. When one candidate's entropy lies `promising` robust standard deviations below the others' median, it is tried on
       `checks` more batches, and taken if it then lies `decisive` ones below. Where none does within `calls`
       evaluations, the best few are compared on more batches each, and the lowest wins.

    With a good cue this ends after a few candidates. With a useless one it visits the stored patterns in some order, so
    that the right one is found after half of them on average: batches may be small, since right and wrong masks differ
    much. Only `field` is used of the memory.
    """

    calls: int = 320
    """Evaluations of the entropy at most, everything counted."""
    cue_calls: int = 8
    promising: float = 3.0
    decisive: float = 5.0
    checks: int = 8
    enough: int = 12
    """Candidates needed before one can be decisive."""
    finalists: int = 4
    condense: int = 12
    """Mean-field steps of a candidate."""
    reach: float = 8.0
    """Size of the first state along the cue, in root mean square; soft states have at most 1."""
    kicks: int = 8
    """Random kicks in a row that may bring nothing new before the memory counts as exhausted."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cue_calls < 1 or self.enough < 3 or self.finalists < 1 or self.checks < 1 or self.condense < 2:
            raise RuleError(f"SearchRecipe: expected counts of at least 1, enough >= 3, condense >= 2, found {self}")
        if self.calls < self.cue_calls + self.checks * self.finalists + 1:
            raise RuleError(f"SearchRecipe: expected calls for the cue, the finalists and a candidate, found {self}")

    def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
        """See `Recipe.run`."""
        soft = pt.to_soft_mask(initial)
        cue = torch.zeros_like(initial)
        for _ in range(self.cue_calls):
            value, gradient = entropy_gradient(entropy, soft)
            cue -= unit(gradient)
            trace.add(value, initial)
        tried = _Tried(initial)
        generator = torch.Generator().manual_seed(self.seed)
        noise, barren = 0.0, 0
        while len(trace.entropy) + self.checks * self.finalists < self.calls and barren < self.kicks:
            kick = torch.randn(cue.shape, generator=generator).to(cue) * noise
            candidate = self._condense(memory, unit(cue) + kick, tried)
            if candidate is None or tried.knows(candidate):
                noise, barren = max(0.5, 2 * noise), barren + 1
                continue
            noise, barren = 0.0, 0
            tried.add(candidate, self._evaluate(entropy, candidate, 1, trace))
            best = tried.lowest(1)[0]
            if len(tried.states) >= self.enough and tried.depth(best) >= self.promising:
                if tried.counts[best] == 1:
                    tried.note(best, self._evaluate(entropy, tried.states[best], self.checks, trace), self.checks)
                if tried.lowest(1)[0] == best and tried.depth(best) >= self.decisive:
                    return tried.answer(best, trace)
        for index in tried.lowest(self.finalists):
            tried.note(index, self._evaluate(entropy, tried.states[index], self.checks, trace), self.checks)
        return tried.answer(tried.lowest(1)[0], trace)

    def _condense(self, memory: RecoverableMemory, cue: Tensor, tried: "_Tried") -> Tensor | None:
        """A stored pattern near the cue that was not tried yet; None if the state did not come to rest."""
        # The first state lies far out along the cue, so that the patterns' different overlaps with the centre do not
        # decide; from then on it stays among soft states and hardens.
        state = tried.centre + self.reach * unit(tried.without(cue))
        last = torch.zeros_like(state)
        for step in range(self.condense):
            amplitude = 0.5 * 40 ** (step / (self.condense - 1))
            pull = unit(tried.without(memory.field(state)))
            if torch.equal(pull.sign(), last):  # condensed before its time
                break
            last = pull.sign()
            state = (tried.centre + amplitude * pull).clamp(-1, 1)
        candidate = settle(memory, initial_signs(state))
        return candidate if bool((pt.signs_or(memory.field(candidate), candidate) == candidate).all()) else None

    def _evaluate(self, entropy: Entropy, state: Tensor, calls: int, trace: Trace) -> float:
        mask, total = pt.to_soft_mask(state), 0.0
        for _ in range(calls):
            with torch.no_grad():
                value = float(entropy(mask))
            trace.add(value, state)
            total += value
        return total / calls


@dataclass
class _Tried:
    """Candidates so far, their mean entropies, and an orthonormal basis of their span."""

    centre: Tensor
    states: list[Tensor] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    basis: Tensor | None = None

    def knows(self, state: Tensor) -> bool:
        return any(torch.equal(state, other) for other in self.states)

    def without(self, state: Tensor) -> Tensor:
        """The state less its projection onto what was tried."""
        return state if self.basis is None else state - (state @ self.basis.T) @ self.basis

    def add(self, state: Tensor, entropy: float) -> None:
        self.states.append(state)
        self.entropies.append(entropy)
        self.counts.append(1)
        # The whole state, not its deviation from the centre: deviations from a mean sum to zero, so that the last
        # pattern would lie in the span of the others. Taken out twice, for orthogonality in float32.
        direction = self.without(self.without(state))
        length = direction.norm()
        if length > 1e-3 * math.sqrt(len(direction)):
            row = (direction / length).unsqueeze(0)
            self.basis = row if self.basis is None else torch.cat([self.basis, row])

    def note(self, index: int, entropy: float, calls: int) -> None:
        total = self.entropies[index] * self.counts[index] + entropy * calls
        self.counts[index] += calls
        self.entropies[index] = total / self.counts[index]

    def lowest(self, count: int) -> list[int]:
        return sorted(range(len(self.states)), key=self.entropies.__getitem__)[:count]

    def depth(self, index: int) -> float:
        """How many robust standard deviations the entropy lies below the others' median.

        One is 1.4826 median absolute deviations, but at least 5 % of the median: among few others the deviations are
        small by chance at times.
        """
        others = [value for i, value in enumerate(self.entropies) if i != index]
        if len(others) < 2:
            return 0.0
        middle = median(others)
        spread = 1.4826 * median(abs(value - middle) for value in others)
        return (middle - self.entropies[index]) / max(spread, 0.05 * abs(middle), 1e-12)

    def answer(self, index: int, trace: Trace) -> Tensor:
        """The chosen state; notes with what confidence: the chance that no other of as many would lie so low."""
        tail = math.erfc(self.depth(index) / math.sqrt(2)) / 2
        trace.confidence = (1 - tail) ** len(self.states)
        return self.states[index]
