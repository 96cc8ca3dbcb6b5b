"""Recovery: the paper's recipe on a model small enough to reason about, and what recovery is allowed to see."""

import pytest
import torch
from torch import Tensor

from hopfield import (
    CueRecipe,
    DenseAssociativeMemory,
    DualMemory,
    Hebbian,
    HopfieldNetwork,
    MeanFieldRecipe,
    Memory,
    PaperRecipe,
    PseudoInverse,
    SearchRecipe,
    Storkey,
    recover,
)
from hopfield import patterns as pt
from hopfield.errors import EmptyMemoryError, EntropyError, PatternError, RuleError
from hopfield.recovery import Entropy, RecoveryRecipe, Trace
from hopfield.recovery.interface import RecoverableMemory
from hopfield.recovery.mean_field import alignment, settle
from tests.helpers.patterns import random_patterns


class EnergyAndFieldOnly:
    """A memory of which nothing but `energy` and `field` can be used."""

    def __init__(self, network: Memory) -> None:
        self.energy, self.field, self.dim, self.device = network.energy, network.field, network.dim, network.device


def _memory(count: int, dim: int) -> tuple[HopfieldNetwork, Tensor]:
    patterns = random_patterns(count, dim)
    network = HopfieldNetwork(dim, Storkey(), centre=None)
    network.store(patterns)
    return network, patterns


def _hint(target: Tensor, known: int, scale: float) -> Entropy:
    """An entropy that knows the first `known` bits of the target and nothing of the rest."""
    wanted = (target[:known] + 1) / 2
    return lambda mask: scale * ((mask[:known] - wanted) ** 2).mean()


def test_the_papers_recipe_completes_a_pattern_from_a_hint() -> None:
    network, patterns = _memory(5, 200)
    for target in patterns:
        found = recover(
            EnergyAndFieldOnly(network),
            _hint(target, 60, 1.0),
            PaperRecipe(steps=30),
            initial=patterns.mean(0),
        )
        assert torch.equal(found.pattern, target)
        assert found.converged
        assert found.steps == len(found.trace.entropy) == len(found.trace.states) == 30


def test_without_a_memory_term_the_unknown_bits_stay_wrong() -> None:
    network, patterns = _memory(5, 200)
    found = recover(network, _hint(patterns[0], 60, 1.0), PaperRecipe(gamma=0.0), initial=patterns.mean(0))
    assert torch.equal(found.pattern[:60], patterns[0, :60])
    assert not torch.equal(found.pattern, patterns[0])


def _weak_hint(target: Tensor, seed: int) -> Entropy:
    """Low at the target alone and noisy: far from it hardly any slope points there."""
    generator = torch.Generator().manual_seed(seed)

    def entropy(mask: Tensor) -> Tensor:
        overlap = ((2 * mask - 1) * target).mean()
        return 2 - overlap.clamp(min=0) ** 4 + 0.02 * torch.randn((), generator=generator)

    return entropy


def test_mean_field_recovers_through_couplings_and_through_the_dual_form() -> None:
    patterns = random_patterns(20, 300)
    dense = HopfieldNetwork(300, PseudoInverse(), centre=patterns.mean(0))
    dense.store(patterns)
    for memory in (dense, DualMemory.of_patterns(patterns, PseudoInverse())):
        for target in patterns[:4]:
            hint = _hint(target, 90, 1.0)
            found = recover(EnergyAndFieldOnly(memory), hint, MeanFieldRecipe(), initial=patterns.mean(0))
            assert torch.equal(found.pattern, target)
            assert found.converged


@pytest.mark.parametrize("rising", [False, True])
def test_one_look_recovers_what_the_gradient_points_to_in_steps_that_do_not_grow(rising: bool) -> None:
    steps = set()
    for count in (10, 60):
        patterns = random_patterns(count, 400, 5, mean=0.2)
        network = HopfieldNetwork(400, PseudoInverse(), centre=patterns.mean(0))
        network.store(patterns)
        for target in patterns[:5]:
            hint = _hint(target, 120, -1.0 if rising else 1.0)
            found = recover(EnergyAndFieldOnly(network), hint, CueRecipe(rising=rising, contrasts=0))
            assert torch.equal(found.pattern, target)
            assert found.converged
            assert found.confidence is None
            steps.add(found.steps)
    assert steps == {8}


def test_soft_updates_find_patterns_that_the_first_signs_miss() -> None:
    patterns = random_patterns(60, 500, 1)
    network = HopfieldNetwork(500, PseudoInverse(), centre=patterns.mean(0))
    network.store(patterns)
    right = {0: 0, 60: 0}
    for condense in right:
        generator = torch.Generator().manual_seed(0)
        for target in patterns[:20]:
            noisy = 7 / 500**0.5 * target + torch.randn(500, generator=generator)
            found = recover(network, _slope(-noisy), CueRecipe(calls=1, contrasts=0, condense=condense))
            right[condense] += torch.equal(found.pattern, target)
    assert right[60] >= right[0] + 2, right
    assert right[60] >= 16, right


def test_a_power_keeps_few_large_entries_from_deciding_alone() -> None:
    patterns = random_patterns(100, 400, 1)
    network = DenseAssociativeMemory.of_patterns(patterns)
    generator = torch.Generator().manual_seed(0)
    right = {1.0: 0, 0.5: 0}
    for target in patterns[:20]:
        noise = torch.randn(400, generator=generator)
        heavy = (0.4 * target + noise) * torch.randn(400, generator=generator).abs() ** 4
        for power in right:
            found = recover(network, _slope(-heavy), CueRecipe(calls=1, contrasts=0, power=power))
            right[power] += torch.equal(found.pattern, target)
    assert right[0.5] >= right[1.0] + 3, right
    assert right[0.5] >= 18, right


def _slope(gradient: Tensor) -> Entropy:
    return lambda mask: gradient @ mask


def test_one_look_is_sure_of_what_is_stored_and_of_nothing_else() -> None:
    patterns = random_patterns(31, 400, 2)
    network = HopfieldNetwork(400, PseudoInverse(), centre=patterns[:30].mean(0))
    network.store(patterns[:30])
    for index, sure in ((4, True), (30, False)):
        found = recover(network, _hint(patterns[index], 120, 1.0), CueRecipe())
        assert found.confidence is not None
        assert (found.confidence > 0.99) == sure
        assert found.steps == 13


def test_search_finds_what_no_gradient_points_to() -> None:
    patterns = random_patterns(30, 200, mean=0.2)
    memory = DenseAssociativeMemory.of_patterns(patterns)
    visited = []
    for seed, target in enumerate(patterns[:8]):
        found = recover(EnergyAndFieldOnly(memory), _weak_hint(target, seed), SearchRecipe(), initial=patterns.mean(0))
        assert torch.equal(found.pattern, target)
        assert found.confidence is not None
        assert found.confidence > 0.99
        visited.append(found.steps)
    assert max(visited) <= 320


def test_search_can_reach_every_stored_pattern() -> None:
    patterns = random_patterns(15, 256, 3)
    memory = DenseAssociativeMemory.of_patterns(patterns)
    flat = SearchRecipe(enough=15)  # never sure, so that it goes on until nothing new turns up
    found = recover(memory, lambda mask: 1.0 + 0.0 * mask.sum(), flat, initial=patterns.mean(0))
    seen = {tuple(state.tolist()) for state in found.trace.states}
    assert sum(tuple(pt.to_bits(p).tolist()) in seen for p in patterns) == 15
    assert found.confidence is not None
    assert found.confidence < 0.5  # all entropies were alike: no stored pattern fits


def test_search_says_when_no_stored_pattern_fits() -> None:
    patterns = random_patterns(21, 200, 1)
    memory = DenseAssociativeMemory.of_patterns(patterns[:20])
    found = recover(memory, _weak_hint(patterns[20], 0), SearchRecipe(), initial=patterns[:20].mean(0))
    assert found.confidence is not None
    assert found.confidence < 0.95
    assert found.steps <= 320


def test_a_budget_is_kept() -> None:
    patterns = random_patterns(60, 200, 1)
    memory = DenseAssociativeMemory.of_patterns(patterns)
    calls = 0

    def counted(mask: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return 1.0 + 0.0 * mask.sum()

    found = recover(memory, counted, SearchRecipe(calls=50), initial=patterns.mean(0))
    assert calls == found.steps <= 50


def test_restarts_find_what_one_annealing_misses() -> None:
    patterns = random_patterns(20, 300)
    network = HopfieldNetwork(300, PseudoInverse(), centre=patterns.mean(0))
    network.store(patterns)
    found = {1: 0, 8: 0}
    for seed, target in enumerate(patterns[:10]):
        for restarts in found:
            recipe = MeanFieldRecipe(steps=20, restarts=restarts)
            result = recover(network, _misleading(target, patterns[-1], seed), recipe, initial=patterns.mean(0))
            found[restarts] += torch.equal(result.pattern, target)
            assert result.steps <= restarts * 24
            assert (result.confidence is None) == (restarts == 1)
    assert found[1] <= 6
    assert found[8] >= 9


def test_restarts_say_when_no_stored_pattern_fits() -> None:
    patterns = random_patterns(21, 300)
    network = HopfieldNetwork(300, PseudoInverse(), centre=patterns[:20].mean(0))
    network.store(patterns[:20])
    recipe = MeanFieldRecipe(steps=20, restarts=8)
    found = recover(network, _weak_hint(patterns[20], 0), recipe, initial=patterns[:20].mean(0))
    assert found.steps == 8 * 24
    assert found.confidence is not None
    assert found.confidence < 0.95


def test_mixtures_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture of three stored patterns is a fixed point like them, and here of the lowest entropy."""
    patterns = random_patterns(9, 600)
    network = HopfieldNetwork(600, PseudoInverse(), centre=patterns.mean(0))
    network.store(patterns)
    mixture = settle(network, patterns[:3].sum(0).sign())
    assert torch.equal(network.field(mixture).sign(), mixture)
    assert min(alignment(network, pattern) for pattern in patterns) > 0.99
    assert alignment(network, mixture) < 0.9
    for aligned, expected in ((0.0, mixture), (0.95, patterns[2])):
        ends = iter([patterns[5], mixture, patterns[2], patterns[7], patterns[8]])
        monkeypatch.setattr(MeanFieldRecipe, "_anneal", lambda *_, ends=ends: next(ends))
        recipe = MeanFieldRecipe(restarts=5, aligned=aligned, patience=5)
        found = recover(network, lambda mask: 2 - ((2 * mask - 1) * mixture).mean(), recipe, initial=patterns.mean(0))
        assert torch.equal(found.pattern, expected)


def test_what_finds_nothing_new_ends_in_time() -> None:
    patterns = random_patterns(3, 100)
    network = HopfieldNetwork(100, PseudoInverse())
    network.store(patterns)

    def flat(mask: Tensor) -> Tensor:
        return 1.0 + 0.0 * mask.sum()

    recipe = MeanFieldRecipe(steps=5, restarts=50, checks=1, patience=4, aligned=0.99)
    found = recover(network, flat, recipe, initial=patterns.mean(0))
    assert found.steps <= 6 * 3 + 5 * 4 * 4  # three patterns, and four in vain after each and before the first at most
    # where nothing counts as stored there is still an answer, of which nothing is known
    network = HopfieldNetwork(100, Hebbian())
    network.store(random_patterns(8, 100, 1))
    never = recover(network, flat, MeanFieldRecipe(steps=5, restarts=9, aligned=0.999999), initial=patterns.mean(0))
    assert never.steps == 5
    assert never.confidence is None


def _misleading(target: Tensor, decoy: Tensor, seed: int) -> Entropy:
    """Lowest at the target, but far from it the slope leads to another pattern, where it is not low."""
    generator = torch.Generator().manual_seed(seed)

    def entropy(mask: Tensor) -> Tensor:
        right, wrong = ((2 * mask - 1) * target).mean(), ((2 * mask - 1) * decoy).mean()
        noise = 0.02 * torch.randn((), generator=generator)
        return 2 - right.clamp(min=0) ** 4 - 0.3 * wrong.clamp(max=0.7) + noise

    return entropy


@pytest.mark.parametrize(
    "recipe",
    [PaperRecipe(), MeanFieldRecipe(), MeanFieldRecipe(restarts=3), SearchRecipe(), CueRecipe(contrasts=1)],
)
def test_few_patterns_are_no_reason_for_confidence(recipe: RecoveryRecipe) -> None:
    patterns = random_patterns(2, 60)
    memory = DenseAssociativeMemory.of_patterns(patterns)
    found = recover(memory, _hint(patterns[0], 30, 1.0), recipe)
    assert found.confidence is None


@pytest.mark.parametrize("recipe", [PaperRecipe(), MeanFieldRecipe(restarts=2), SearchRecipe(), CueRecipe(calls=20)])
def test_an_entropy_that_is_none_is_refused_by_name(recipe: RecoveryRecipe) -> None:
    network, patterns = _memory(3, 50)
    calls = 0

    def late(mask: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return mask.sum() * (float("nan") if calls == 20 else 1.0)

    other = torch.ones((), requires_grad=True)
    wrong: list[Entropy] = [
        lambda mask: 1.0,  # type: ignore[list-item, return-value]
        lambda mask: 2 * mask,
        lambda mask: mask.detach().sum(),
        lambda mask: other * 2,
        lambda mask: mask.sum() * float("inf"),
        lambda mask: (mask - mask).sqrt().sum(),  # finite, with an infinite slope
        late,
    ]
    for entropy in wrong:
        with pytest.raises(EntropyError, match=r"entropy: expected a (finite|scalar)"):
            recover(network, entropy, recipe, initial=patterns.mean(0))


@pytest.mark.parametrize("recipe", [PaperRecipe(), MeanFieldRecipe(), SearchRecipe(), CueRecipe()])
def test_an_empty_memory_is_refused_by_name(recipe: RecoveryRecipe) -> None:
    empty = torch.ones(0, 50)
    for memory in (HopfieldNetwork(50), DualMemory.of_patterns(empty), DenseAssociativeMemory.of_patterns(empty)):
        with pytest.raises(EmptyMemoryError):
            recover(memory, lambda mask: mask.square().sum(), recipe)


def test_a_recipe_gets_energy_and_field_of_a_memory_and_nothing_else() -> None:
    patterns = random_patterns(5, 50)
    seen: list[set[str]] = []

    class Curious(RecoveryRecipe):
        def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
            seen.append({name for name in dir(memory) if not name.startswith("_")})
            return memory.field(initial).sign()

    for memory in (DualMemory.of_patterns(patterns), DenseAssociativeMemory.of_patterns(patterns)):
        recover(memory, lambda mask: mask.sum(), Curious(), initial=patterns[0])
    assert seen == [{"dim", "device", "energy", "field"}] * 2


def test_search_where_nothing_comes_to_rest_says_so() -> None:
    class Restless:
        dim, device = 4, torch.device("cpu")

        def field(self, state: Tensor) -> Tensor:
            return -state  # every neuron flips for ever

        def energy(self, state: Tensor) -> Tensor:
            return state.square().sum(-1) / 2

    found = recover(Restless(), lambda mask: mask.square().sum(), SearchRecipe())
    assert (found.converged, found.confidence) == (False, 0.0)


def test_bad_input_is_named() -> None:
    network, _ = _memory(2, 50)
    with pytest.raises(RuleError, match="expected a recipe"):
        recover(network, lambda mask: mask.sum(), MeanFieldRecipe)  # type: ignore[arg-type]
    with pytest.raises(PatternError, match=r"\[-1, 1\]"):
        recover(network, lambda mask: mask.sum(), PaperRecipe(), initial=torch.full((50,), 2.0))
    with pytest.raises(PatternError, match="shape"):
        recover(network, lambda mask: mask.sum(), PaperRecipe(), initial=torch.zeros(2, 50))
    for wrong in (
        lambda: PaperRecipe(steps=0),
        lambda: MeanFieldRecipe(steps=1),
        lambda: MeanFieldRecipe(first_beta=2.0, last_beta=1.0),
        lambda: SearchRecipe(calls=10),
        lambda: SearchRecipe(enough=1),
        lambda: MeanFieldRecipe(restarts=0),
        lambda: MeanFieldRecipe(enough=2),
        lambda: MeanFieldRecipe(aligned=1.0),
        lambda: MeanFieldRecipe(patience=0),
        lambda: CueRecipe(calls=0),
        lambda: CueRecipe(power=0.0),
        lambda: CueRecipe(contrasts=-1),
        lambda: CueRecipe(condense=-1),
        lambda: CueRecipe(aligned=1.0),
    ):
        with pytest.raises(RuleError):
            wrong()
