"""Masks as pruning makes them, and the codec `mix`: bits against the entropy, speeds against other codecs.

`pytest benchmarks/ -k large_structure -s` for layers of 4 million bits, with `--full` for 67 million. Sizes are
asserted. Speeds are in the processor's own time of one core, the best of a few runs, with contexts; only those of one
run may be compared.
"""

from collections.abc import Callable
from math import comb, log2
from time import thread_time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from maskstore import Mask, MaskSpec
from maskstore.codecs import Ans, Codec, Mix, Pattern, encode_mask, size_of
from maskstore.priors import Prior, SeededScores, Uniform

Dense = NDArray[np.bool_]


def entropy(share: Any) -> Any:
    """Of a bit that is set with such a probability."""
    share = np.clip(share, 1e-12, 1 - 1e-12)
    return -(share * np.log2(share) + (1 - share) * np.log2(1 - share))


def n_of_m(side: int, n: int, m: int, rng: np.random.Generator) -> tuple[Dense, float]:
    """n of every m neighbours of a row."""
    scores = rng.random((side, side // m, m), dtype=np.float32)
    kept = scores.argsort(axis=2).argsort(axis=2) >= m - n
    return kept.reshape(side, side), log2(comb(m, n)) / m


def down(side: int, rng: np.random.Generator) -> tuple[Dense, float]:
    """2:4 along the columns."""
    dense, bits = n_of_m(side, 2, 4, rng)
    return np.ascontiguousarray(dense.T), bits


def so_many_a_row(side: int, share: float, rng: np.random.Generator) -> tuple[Dense, float]:
    """As many in every row, as Wanda keeps them."""
    count = int(share * side)
    scores = rng.random((side, side), dtype=np.float32)
    dense = np.zeros((side, side), dtype=np.bool_)
    np.put_along_axis(dense, np.argpartition(scores, count, axis=1)[:, :count], True, axis=1)
    return dense, log2(comb(side, count)) / side


def tiles(side: int, tall: int, wide: int, rng: np.random.Generator) -> tuple[Dense, float]:
    """Whole tiles, three of ten."""
    coarse = rng.random((side // tall, side // wide)) < 0.3
    return np.repeat(np.repeat(coarse, tall, 0), wide, 1), float(entropy(0.3)) / (tall * wide)


def channels(side: int, rng: np.random.Generator) -> tuple[Dense, float]:
    """Rows and columns that are empty, and half of the rest."""
    rows, columns = rng.random(side) < 0.6, rng.random(side) < 0.5
    dense = np.outer(rows, columns) & (rng.random((side, side)) < 0.5)
    return dense, float(rows.mean() * columns.mean() + (entropy(0.6) + entropy(0.5)) / side)


def rows_of_own_density(side: int, rng: np.random.Generator) -> tuple[Dense, float]:
    """Rows of densities from 0 to 1."""
    shares = rng.random((side, 1)) ** 2
    return rng.random((side, side)) < shares, float(entropy(shares).mean())


PATTERNS: dict[str, tuple[Callable[[int, np.random.Generator], tuple[Dense, float]], float]] = {
    "2:4": (lambda side, rng: n_of_m(side, 2, 4, rng), 1.01),
    "4:8": (lambda side, rng: n_of_m(side, 4, 8, rng), 1.01),
    "1:4": (lambda side, rng: n_of_m(side, 1, 4, rng), 1.01),
    "2:4, down": (down, 1.01),
    "half of each row": (lambda side, rng: so_many_a_row(side, 0.5, rng), 1.02),
    "a tenth of each row": (lambda side, rng: so_many_a_row(side, 0.1, rng), 1.02),
    "16 x 16": (lambda side, rng: tiles(side, 16, 16, rng), 1.02),
    "32 x 1": (lambda side, rng: tiles(side, 32, 1, rng), 1.02),
    "channels": (channels, 1.02),
    "rows": (rows_of_own_density, 1.02),
}


def speeds(codec: Codec, mask: Mask, prior: Prior, runs: int = 3) -> tuple[int, float, float]:
    """Bytes, and bits a second of coding and decoding, after checking that the bits come back."""
    best = [float("inf")] * 2
    for _ in range(runs + 1):
        start = thread_time()
        _, coded = encode_mask(codec, mask, prior)
        middle = thread_time()
        words = [
            codec.decode_layer(piece, layer, lambda i=i: prior.contexts(mask.spec, i))
            for i, (piece, layer) in enumerate(zip(coded, mask.spec, strict=True))
        ]
        end = thread_time()
        best = [min(best[0], middle - start), min(best[1], end - middle)]
    assert np.array_equal(np.concatenate(words), mask.words)
    return size_of(coded), mask.spec.bits / best[0], mask.spec.bits / best[1]


@pytest.fixture(scope="module")
def table() -> Any:
    """One table for all patterns, printed at the end."""
    table = Table("pattern", "codec", "bits/bit", "of its entropy", "encode Mbit/s", "decode Mbit/s")
    yield table
    Console(width=110).print("", table)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("seed", [0, 1])
def test_large_structure_takes_its_entropy(name, seed, full, table):
    make, limit = PATTERNS[name]
    dense, bits = make(8192 if full else 2048, np.random.default_rng(seed))
    mask = Mask.from_dense({"a": dense})
    chosen, _ = encode_mask("auto", mask, Uniform())
    assert isinstance(chosen, Codec)
    size, encoding, decoding = speeds(chosen, mask, Uniform())
    found = 8 * size / mask.spec.bits
    table.add_row(
        name, chosen.id, f"{found:.5f}", f"{found / bits:.4f}", f"{encoding / 1e6:.0f}", f"{decoding / 1e6:.0f}"
    )
    assert found <= limit * bits + 8 * 64 / mask.spec.bits


def test_large_structure_speed_of_mix(table):
    """One seeded LeNet mask: `mix` beside `ans`, contexts included."""
    spec = MaskSpec({"fc1": (300, 784), "fc2": (100, 300), "fc3": (100, 100)})
    mask = Mask.from_flat(np.random.default_rng(0).random(spec.bits) < 0.5, spec)
    rates = {}
    for codec in (Ans(), Mix(), Pattern()):
        size, encoding, decoding = speeds(codec, mask, SeededScores(0, 0))
        rates[codec.id] = decoding
        found = 8 * size / spec.bits
        table.add_row(
            "none", codec.id, f"{found:.5f}", f"{found:.4f}", f"{encoding / 1e6:.1f}", f"{decoding / 1e6:.1f}"
        )
    assert rates["mix"] > rates["ans"] / 60
