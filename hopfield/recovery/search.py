"""A recipe that scales: stored patterns are tried in the order in which the cue suggests them."""

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
from hopfield.recovery.mean_field import initial_signs, settle, unit


@dataclass(frozen=True)
class SearchRecipe(RecoveryRecipe):
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
    much. Only `field` is used of the memory. Where nothing comes to rest in it, the initial state's signs are the
    answer, with confidence 0.

    Examples:
        >>> import torch
        >>> from hopfield import DenseAssociativeMemory, SearchRecipe, patterns, recover
        >>> stored = patterns.random_patterns(20, 100, torch.Generator().manual_seed(0))
        >>> memory = DenseAssociativeMemory.of_patterns(stored)
        >>> found = recover(memory, lambda mask: ((2 * mask - 1 - stored[2]) ** 2).mean(), SearchRecipe())
        >>> torch.equal(found.pattern, stored[2])
        True
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
        """See `RecoveryRecipe.run`."""
        soft = pt.to_soft_mask(initial)
        cue = torch.zeros_like(initial)
        for _ in range(self.cue_calls):
            value, gradient = entropy_gradient(entropy, soft)
            cue -= unit(gradient)
            trace.add(value, initial)
        tried = Candidates(initial)
        generator = torch.Generator().manual_seed(self.seed)
        noise, barren = 0.0, 0
        while len(trace.entropy) + self.checks * self.finalists < self.calls and barren < self.kicks:
            kick = torch.randn(cue.shape, generator=generator, dtype=torch.float32).to(cue) * noise
            candidate = self._condense(memory, unit(cue) + kick, tried)
            if candidate is None or tried.knows(candidate):
                noise, barren = max(0.5, 2 * noise), barren + 1
                continue
            noise, barren = 0.0, 0
            tried.add(candidate, mean_entropy(entropy, candidate, 1, trace), 1)
            best = tried.lowest(1)[0]
            if len(tried) >= self.enough and tried.depth(best) >= self.promising:
                if tried.counts[best] == 1:
                    tried.note(best, mean_entropy(entropy, tried.states[best], self.checks, trace), self.checks)
                if tried.lowest(1)[0] == best and tried.depth(best) >= self.decisive:
                    return tried.answer(trace)
        if not len(tried):  # nothing comes to rest in this memory
            trace.confidence = 0.0
            return initial_signs(initial)
        for index in tried.lowest(self.finalists):
            tried.note(index, mean_entropy(entropy, tried.states[index], self.checks, trace), self.checks)
        return tried.answer(trace)

    def _condense(self, memory: RecoverableMemory, cue: Tensor, tried: Candidates) -> Tensor | None:
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
