"""Memories for patterns with few ones: `pytest benchmarks/ -k hopfield_sparse -s --full`. Minutes; no data needed.

Sizes stand beside the packed patterns and beside their information, which no code for random patterns can undercut.
Without `--full` the networks are smaller. `hopfield_sparse_field` is a timing: it needs a quiet machine.
"""

import time
import warnings
from collections.abc import Callable
from statistics import mean, stdev

import pytest
import torch

from hopfield import CoarseCovariance, CodedMemory, Covariance, Memory, Teaching, Willshaw, theory
from hopfield import patterns as pt
from hopfield.errors import CapacityWarning
from hopfield.memories.sparse.tiles import SymmetricBits


def report(what: str, target: str, found: str) -> None:
    print(f"\n| {what} | {target} | {found} |", end="", flush=True)


def random(dim: int, ones: int, count: int, seed: int) -> torch.Tensor:
    return pt.sparse_patterns(count, dim, ones, torch.Generator().manual_seed(seed))


def quietly(memory: Memory, stored: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CapacityWarning)
        memory.store(stored)


def exact(memory: Memory, cues: torch.Tensor, stored: torch.Tensor) -> float:
    return float((memory.recall(cues, max_sweeps=30) == stored).all(1).float().mean())


@pytest.mark.parametrize("share", [0.05, 0.02])
@pytest.mark.parametrize("load", [0.5, 0.6, 0.7, 0.8, 1.0])
def test_hopfield_sparse_one_bit_couplings(share: float, load: float, full: bool) -> None:
    """As many patterns as this load has; at p = 0.02 they carry half the bits, so twice as many are tried."""
    dim = 2048 if full else 512
    ones, count = round(share * dim), round(load * dim * (1 if share == 0.05 else 2))
    fixed, recalled = [], []
    for seed in range(2 if full else 1):
        stored = random(dim, ones, count, seed)
        memory = CoarseCovariance.learnt(stored, Teaching(rounds=120 if full else 40, seed=seed))
        fixed.append(float((pt.signs_or(memory.field(stored), stored) == stored).all(1).float().mean()))
        cues = pt.move_ones(stored, round(0.1 * ones), torch.Generator().manual_seed(100 + seed))
        recalled.append(exact(memory, cues, stored))
    packed, information = count * dim / 8, count * theory.pattern_bits(dim, ones) / 8
    report(
        f"learnt one-bit, d = {dim}, p = {share}, {count} patterns: fixed points; exact with a tenth "
        "of the ones moved; bytes / packed, / information",
        "-",
        f"{', '.join(f'{x:.3f}' for x in fixed)}; {', '.join(f'{x:.3f}' for x in recalled)}; "
        f"{memory.nbytes / packed:.2f}, {memory.nbytes / information:.2f}",
    )
    if share == 0.05 and load == 0.5:
        assert min(recalled) > 0.95


@pytest.mark.parametrize(("share", "most"), [(0.05, 0.55), (0.02, 0.2)])
def test_hopfield_sparse_coded(share: float, most: float, full: bool) -> None:
    """The patterns themselves, coded: smaller than couplings, and recalled from much worse cues."""
    dim, count = (4096, 6000 if share == 0.02 else 4000) if full else (1024, 500)
    ones = round(share * dim)
    for seed in range(2):
        stored = random(dim, ones, count, seed)
        memory = CodedMemory.of_patterns(stored)
        asked, generator = stored[:200], torch.Generator().manual_seed(100 + seed)
        fixed = exact(memory, asked, asked)
        found = [exact(memory, pt.move_ones(asked, round(part * ones), generator), asked) for part in (0.1, 0.7)]
        packed, information = count * dim / 8, count * theory.pattern_bits(dim, ones) / 8
        report(
            f"coded, d = {dim}, p = {share}, {count} patterns, seed {seed}: fixed points; exact with 10, 70 % of the "
            "ones moved; bytes / packed, / information",
            f">= 0.99; >= 0.95; <= {most}, <= 1.5",
            f"{fixed:.3f}; {found[0]:.3f}, {found[1]:.3f}; {memory.nbytes / packed:.3f}, "
            f"{memory.nbytes / information:.3f}",
        )
        assert fixed >= 0.99
        assert found[0] >= 0.95
        assert memory.nbytes <= min(most * packed, 1.5 * information)


@pytest.mark.parametrize("dim", [2048, 8192])
def test_hopfield_sparse_willshaw(dim: int, full: bool) -> None:
    """Bits of pattern a synapse, where in one step from a pattern at most 1 % of as many neurons as it has ones err."""
    dim = dim if full else dim // 4
    ones = round(torch.tensor(dim).log2().item())
    memory, generator = Willshaw(dim, ones, threshold="inhibition"), torch.Generator().manual_seed(0)
    sample, best = pt.sparse_patterns(500, dim, ones, generator), ""
    quietly(memory, sample)
    for fill in (0.3, 0.35, 0.4, 0.45, 0.5):
        count = int(torch.log1p(torch.tensor(-fill)) / torch.log1p(torch.tensor(-((ones / dim) ** 2))))
        while len(memory) < count:  # one after another: all at once would not fit into memory
            quietly(memory, pt.sparse_patterns(min(4096, count - len(memory)), dim, ones, generator))
        wrong = float((pt.signs_or(memory.field(sample), sample) != sample).sum() / (len(sample) * ones))
        bits = count * theory.pattern_bits(dim, ones) / (8 * memory.nbytes)
        best += f" {count}: {bits:.2f} bits, {100 * wrong:.2f} %, {100 * wrong * ones / dim:.4f} %;"
    report(f"Willshaw, d = {dim}, {ones} ones: patterns, bits a synapse, wrong of ones, of all", ">= 0.4", best)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("one_bit", [False, True])
def test_hopfield_sparse_capacity_against_theory(share: float, one_bit: bool, full: bool) -> None:
    dim, seeds = 1024, 5 if full else 2
    ones, lines = round(share * dim), []
    for gap in (2.5, 3.0, 3.5, 4.0, 4.5):
        count = round(theory.covariance_gap(dim, ones, 1, one_bit=one_bit) ** 2 / gap**2)
        found = []
        for seed in range(seeds):
            stored = random(dim, ones, count, seed)
            graded = Covariance(dim, ones)
            quietly(graded, stored)
            memory = CoarseCovariance.of(graded, "one-bit") if one_bit else graded
            after = pt.signs_or(memory.field(stored), stored)
            found.append(float(((after < 0) & (stored > 0)).sum() / (count * ones)))
        expected = theory.wrong_ones(dim, ones, theory.covariance_gap(dim, ones, count, one_bit=one_bit))
        reached = count / patterns_by_theory(dim, ones, mean(found), one_bit=one_bit)
        lines.append(f"{count}: {mean(found):.4f} ± {stdev(found) / seeds**0.5:.4f} ({expected:.4f}; {reached:.3f})")
        assert one_bit or 0.85 < reached < 1.15
    name = "one-bit" if one_bit else "graded"
    report(
        f"{name}, d = {dim}, p = {share}: patterns: ones lost in a step ± error (theory; patterns / those at which "
        "theory has as many lost)",
        "0.85 to 1.15",
        f"{lines}",
    )


def patterns_by_theory(dim: int, ones: int, lost: float, *, one_bit: bool) -> float:
    """How many patterns there are where theory has this share of the ones lost in a step."""
    low, high = 1.0, 100.0 * dim
    while high - low > 0.01:
        middle = (low + high) / 2
        gap = theory.covariance_gap(dim, ones, 1, one_bit=one_bit) / middle**0.5
        low, high = (middle, high) if theory.wrong_ones(dim, ones, gap) < lost else (low, middle)
    return low


def seconds(work: Callable[[], object]) -> float:
    found = []
    for _ in range(7):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def test_hopfield_sparse_field_of_a_batch() -> None:
    dim, generator = 4096, torch.Generator().manual_seed(0)
    matrix = torch.randn((dim, dim), generator=generator)
    matrix = matrix + matrix.T
    graded, bits = Covariance(dim, 205), SymmetricBits.of(matrix)
    quietly(graded, random(dim, 205, 50, 0))
    cues = random(dim, 205, 256, 1)
    active = pt.to_soft_mask(cues)
    plain, whole, one_bit = (
        seconds(lambda: active @ matrix),
        seconds(lambda: graded.field(cues)),
        seconds(lambda: bits.apply(active)),
    )
    report(
        "field of 256 cues, d = 4096: plain product; graded, one-bit: times as fast",
        ">= 0.9; >= 4",
        f"{1000 * plain:.0f} ms; {plain / whole:.2f}; {plain / one_bit:.2f}",
    )
