"""How many bits does a task need? `pytest benchmarks/ -k storage -s`; with `--full`, what docs/results.md shows.

Quick: digits, few tasks, in a temporary folder. Full: whatever `benchmarks/results/` lacks, which may take an hour or
two; the same as `python -m benchmarks.storage all`. Trained masks are kept in `runs/storage`.
"""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.storage import cases as streams
from benchmarks.storage.__main__ import RESULTS
from benchmarks.storage.cases import Place
from benchmarks.storage.columns import table
from benchmarks.storage.imagenet import IMAGENET
from benchmarks.storage.measure import measure
from benchmarks.storage.pruned import HOWS, PATTERNS
from benchmarks.storage.results import read
from benchmarks.storage.suites import FULL, QUICK, Suite
from supsup_models.errors import DataNotFoundError

STREAMS = (*streams.FULL, *streams.QUICK)


@pytest.fixture(scope="module")
def place(full: bool, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(Path("runs/storage") if full else tmp_path_factory.mktemp("storage"))


def rows_of(suite: Suite, full: bool, place: Place, methods: list[str] | None = None) -> dict:
    try:
        path = measure(suite, RESULTS if full else place.runs / "results", place, methods)
    except DataNotFoundError as error:
        pytest.skip(f"needs the data set: {error}")
    rows = read(path)
    Console(width=160).print("", table(suite.name, rows))
    return rows


@pytest.mark.parametrize("name", [name for name in FULL if name in STREAMS])
def test_storage_of_a_stream(name: str, full: bool, place: Place) -> None:
    if not full and name not in QUICK:
        pytest.skip("only with --full")
    rows = rows_of((FULL if full else QUICK)[name], full, place)
    ours, others = rows["paper-max"], [row for row in rows.values() if row["group"] == "format"]
    assert len(others) == 6
    assert ours["bytes"] < min(row["bytes"] for row in others)  # the same masks
    assert rows["networks"]["bytes"] > 10 * rows["bit-packing"]["bytes"]


def test_storage_of_hopfield_memories(full: bool, place: Place) -> None:
    rows = rows_of((FULL if full else QUICK)["memories"], full, place)
    packed = rows["neurons-packed"]["bytes"]
    assert rows["neurons-psi-float32"]["bytes"] > rows["neurons-psi-one-bit"]["bytes"] > packed
    assert all(rows[f"{kind}-dual"]["bytes"] > rows[f"{kind}-bank"]["bytes"] for kind in ("neurons", "weights"))


def test_storage_of_the_published_table(full: bool, place: Place) -> None:
    methods = list(IMAGENET) if full else ["65.50-csr-16", "65.50-auto", "65.50-entropy"]
    rows = rows_of((FULL if full else QUICK)["resnet-50"], full, place, methods)
    for published in {row["notes"]["published_megabytes"] for row in rows.values()}:
        ours, csr = rows[f"{published}-auto"], rows[f"{published}-csr-16"]
        assert csr["bytes"] / 1e6 == pytest.approx(float(published), rel=1e-4)  # the density was worked out from this
        masks = ours["parts"]["masks"] + ours["parts"]["side"]  # a file of one mask is mostly what its last page lacks
        assert masks < (0.6 if full else 0.7) * csr["parts"]["masks"]
        if full:
            assert ours["bytes"] < 0.75 * csr["bytes"]


def test_storage_of_a_small_sparse_bank(full: bool, place: Place) -> None:
    rows = rows_of((FULL if full else QUICK)["sparse-bank"], full, place)
    others = [row["bytes"] for row in rows.values() if row["group"] == "format"]
    assert rows["auto"]["bytes"] < min(others) * (1 if full else 1.1)  # of few batches little can be learned
    if full:
        assert rows["mix-seed"]["bytes"] < rows["mix"]["bytes"] < 0.9 * rows["entropy"]["bytes"]


def test_storage_of_a_pruned_transformer(full: bool, place: Place) -> None:
    rows = rows_of((FULL if full else QUICK)["pruned-1b"], full, place)
    for pattern in PATTERNS:
        found = [rows[f"{pattern}-{how}"] for how in HOWS if f"{pattern}-{how}" in rows]
        others = [row["bytes"] for row in found if row["group"] == "format"]
        if full:
            assert rows[f"{pattern}-auto"]["bytes"] < 1.001 * min(others)
