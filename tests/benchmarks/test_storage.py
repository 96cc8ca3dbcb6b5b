"""The storage benchmark's own parts: formats that give back what they were given, and results that are kept."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
from benchmarks.storage import huffman, sparse_bank
from benchmarks.storage.cases import Case, Place, recipe_settings
from benchmarks.storage.columns import grouped, markdown, seconds
from benchmarks.storage.entropies import best_static_bits, iid_bits, n_of_m_bits
from benchmarks.storage.formats import FORMATS, csr16, each_mask, packed, unpacked
from benchmarks.storage.imagenet import PUBLISHED, density_of, entropy_bits, resnet, statistics_bytes
from benchmarks.storage.measure import measure
from benchmarks.storage.methods import METHODS
from benchmarks.storage.optional import OPTIONAL, Optional
from benchmarks.storage.plots import draw, front, plot_path
from benchmarks.storage.pruned import PATTERNS, PrunedCase, pruned_mask
from benchmarks.storage.results import Results, Row, read
from benchmarks.storage.sparse_bank import SPARSE, SparseCase
from benchmarks.storage.suites import Suite
from maskstore import Mask, MaskSpec
from supsup_models import RECIPES
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"a": (3, 5), "b": (64, 70), "c": (4, 2, 3, 3)})


def masks_of(density: float, count: int) -> list[Mask]:
    return [random_mask(SPEC, density, seed) for seed in range(count)]


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_optional_coders_give_back_the_masks(name, density):
    if OPTIONAL[name].why_absent:
        pytest.skip(OPTIONAL[name].why_absent)
    form, masks = OPTIONAL[name].format, masks_of(density, 2)
    assert form.decode(form.encode(masks), SPEC) == masks


def test_a_coder_that_is_not_installed_is_left_out_by_name(tmp_path, monkeypatch):
    form = each_mask("nothing", packed, unpacked)
    monkeypatch.setattr(sparse_bank, "OPTIONAL", {"xz": Optional(form, "no_such_module", "pip install nothing")})
    monkeypatch.setattr(sparse_bank, "sparse_masks", lambda case, place: [])
    told = []
    suite = Suite("sparse-bank", SparseCase(), SPARSE)
    measure(suite, tmp_path, Place(tmp_path), ["xz"], tell=told.append)
    assert told == ["sparse-bank nothing: left out, no_such_module is not installed (pip install nothing)"]


def test_pruned_masks_keep_what_their_pattern_says():
    case = PrunedCase(width=64, hidden=128, keys=32)
    found = {pattern: pruned_mask(case, pattern) for pattern in PATTERNS}
    assert sum(layer.size for layer in found["wanda"].spec) == 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128
    for layer in found["wanda"].spec:
        assert found["magnitude"][layer.name].sum() == layer.size // 2
        assert (found["wanda"][layer.name].sum(axis=1) == layer.shape[1] // 2).all()
        assert (found["wanda-2-4"][layer.name].reshape(-1, 4).sum(axis=1) == 2).all()
    assert n_of_m_bits(found["wanda-2-4"], 2, 4) == pytest.approx(found["wanda"].spec.bits * np.log2(6) / 4)
    assert best_static_bits(found["wanda"]) < 0.97 * iid_bits(found["wanda"])


def test_the_entropy_of_rows_and_columns():
    rows = Mask.from_dense({"a": np.repeat([[1], [0]], 8, axis=1)})
    assert (iid_bits(rows), best_static_bits(rows)) == (16, 0)
    assert best_static_bits(Mask.from_dense({"a": np.tile([1, 0], (4, 2))})) == 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 7, 9])
def test_formats_give_back_the_masks(name, density, count):
    if name == "roaring":
        pytest.importorskip("pyroaring")
    masks = masks_of(density, count)
    assert FORMATS[name].decode(FORMATS[name].encode(masks), SPEC) == masks


def test_sizes_are_those_of_the_formats():
    mask = masks_of(0.1, 1)
    layers = [layer.reshape(layer.shape[0], -1) for layer in mask[0].dense().values()]
    columns = [csr16(layer)[0] for layer in layers]
    csr = FORMATS["csr-16"].size(FORMATS["csr-16"].encode(mask))
    assert csr == {"masks": 2 * sum(map(len, columns)) + 4 * sum(map(len, layers)), "index": 4}
    packed = FORMATS["bit-packing"]
    assert packed.size(packed.encode(mask)) == {"masks": sum(layer.bytes for layer in SPEC), "index": 0}


def test_huffman_counts_its_codebook():
    """Four symbols with counts 4, 2, 1, 1: codes of 1, 2, 3 and 3 bits, 14 bits in 2 bytes."""
    symbols = np.array([0, 0, 0, 0, 1, 1, 2, 3], dtype=np.uint8)
    masks = np.stack([symbols & 1, symbols >> 1]).astype(bool)
    coded = huffman.encode(masks)
    assert list(coded[:5]) == [2, 3, 1, 1, 2]  # masks, longest code, codes of 1, 2 and 3 bits
    assert list(coded[5:9]) == [0, 1, 2, 3]
    assert len(coded) == 9 + 2
    assert np.array_equal(huffman.decode(coded, 8), masks)


def test_rows_longer_than_16_bits_are_refused():
    with pytest.raises(ValueError, match="65536 columns, found 65537"):
        FORMATS["csr-16"].encode([Mask.from_dense({"a": np.zeros((1, 65537), dtype=bool)})])


@pytest.mark.parametrize("megabytes", PUBLISHED)
def test_density_leads_back_to_the_published_size(megabytes):
    spec, _ = resnet()
    rows = sum(layer.shape[0] for layer in spec)
    size = 100 * (2 * density_of(megabytes) * spec.bits + 4 * rows + statistics_bytes())
    assert size == pytest.approx(1e6 * float(megabytes))
    p = density_of(megabytes)
    assert entropy_bits(p) == pytest.approx(-spec.bits * (p * np.log2(p) + (1 - p) * np.log2(1 - p)), rel=1e-3)


def test_resnet_is_the_published_one():
    spec, channels = resnet()
    assert (spec.bits, sum(channels), statistics_bytes()) == (25_502_912, 26_560, 212_480)
    assert spec.bits + 2 * sum(channels) + 1000 == 25_557_032  # with gains, shifts and the last layer's biases


class Counted:
    """A method that says how often it was measured."""

    calls = 0

    def config(self, case: Case) -> dict:
        return case.to_json()

    def measure(self, case: Case, place: Place) -> Row:
        self.calls += 1
        return Row("counted", "ours", {"masks": 60, "index": 40}, case.tasks, 100, 0.9, 0.8, 0.95)


def test_only_missing_rows_are_measured(tmp_path):
    method, place = Counted(), Place(tmp_path)
    suite = Suite("permuted-digits", Case("permuted-digits", 2, 10), {"one": method})
    path = measure(suite, tmp_path, place, tell=lambda _: None)
    measure(suite, tmp_path, place, tell=lambda _: None)
    assert method.calls == 1
    measure(suite, tmp_path, place, again=True, tell=lambda _: None)
    assert method.calls == 2
    longer = Suite(suite.name, Case("permuted-digits", 2, 20), suite.methods)
    measure(longer, tmp_path, place, tell=lambda _: None)
    assert method.calls == 3
    row = read(path)["one"]
    assert (row["bytes"], row["bits_per_parameter"]) == (100, 4.0)
    assert row["command"] == "python -m benchmarks.storage permuted-digits one"


def test_rows_keep_the_order_of_the_methods(tmp_path):
    row = Row("title", "ours", {"masks": 1}, 1, 1)
    for name in ("second", "gone", "first"):
        Results(tmp_path, "file", ["first", "gone", "second"]).put(name, {}, row, "command")
    Results(tmp_path, "file", ["first", "second"]).put("second", {}, row, "command")
    assert list(read(tmp_path / "file.json")) == ["first", "second"]


def test_a_recipe_is_its_settings():
    assert recipe_settings("paper") == {"kind": "Recipe", "name": "paper"}
    assert all(json.loads(json.dumps(recipe_settings(name)))["name"] == name for name in RECIPES)
    assert len({json.dumps(recipe_settings(name)) for name in RECIPES}) == len(RECIPES)


def test_front_is_what_nothing_beats():
    assert front([(2, 0.9), (1, 0.8), (3, 0.85), (1, 0.7), (4, 0.95)]) == [(1, 0.8), (2, 0.9), (4, 0.95)]


def test_plot_draws_every_method(tmp_path):
    names = list(METHODS)
    results = Results(tmp_path, "split-digits", names)
    for number, name in enumerate(names):
        row = Row(f"title {number}", "baseline", {"masks": 10 + number}, 1, 8, 0.5 + 0.01 * number, 0.4, 0.5)
        results.put(name, {}, row, "command")
    draw(tmp_path, "digits")
    drawn = plot_path(tmp_path, "digits").read_text()
    assert all(f">title {number}<" in drawn for number in range(len(names)))
    before = drawn
    draw(tmp_path, "digits")
    assert plot_path(tmp_path, "digits").read_text() == before


def test_cells():
    assert grouped(1234567) == "1 234 567"
    assert [seconds(value) for value in (None, 0.0123, 2.345, 120.4)] == ["", "0.012", "2.3", "120"]
    row = {**Row("a way", "ours", {"masks": 100}, 1, 800, 0.12345).to_json(), "command": "do it"}
    assert (
        markdown("permuted-digits", {"a": row}).splitlines()[2] == "| a way | 12.35 |  |  | 100 | 1 |  |  | `do it` |"
    )
