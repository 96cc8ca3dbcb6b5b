"""An index gives what the bank gives, from a file that is mapped; and it says so when it is stale or damaged."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskMatrix, MaskSpec, open_index, write_index
from maskstore.errors import (
    BankExistsError,
    BankNotFoundError,
    CorruptError,
    ForeignFileError,
    FormatVersionError,
    MaskStoreError,
    SpecError,
    StaleIndexError,
)
from maskstore.index import beside, index_of
from maskstore.masks import Copies, leader


@pytest.fixture(autouse=True)
def search_few_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches start with masks that are fast to make."""
    monkeypatch.setattr(leader, "READ_WHOLE", 0)


SPEC = MaskSpec({"fc1": (30, 70), "fc2": (5, 30)})  # layers that do not end with a word


def masks_of(count: int, spec: MaskSpec = SPEC, seed: int = 0) -> list[Mask]:
    rng = np.random.default_rng(seed)
    return [Mask.from_flat(rng.random(spec.bits) < 0.4, spec) for _ in range(count)]


def bank_of(path: Path, count: int) -> MaskBank:
    bank = MaskBank.create(path, SPEC)
    with bank.transaction():
        for number, mask in enumerate(masks_of(count)):
            bank.put(f"task-{number}", mask)
    return bank


@pytest.fixture
def bank(tmp_path):
    with bank_of(tmp_path / "tasks.bank", 150) as opened:
        yield opened


@pytest.mark.parametrize("count", [0, 1, 15, 16, 33])
def test_an_index_is_the_matrix_of_its_bank(tmp_path, count):
    with bank_of(tmp_path / "tasks.bank", count) as bank:
        path = write_index(bank)
        assert path == beside(bank.path)
        found, wanted = open_index(path, bank=bank, verify=True), bank.matrix()
    assert found.names == wanted.names
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_array_equal(found.counts(), wanted.counts())
    assert all(found[row] == wanted[row] for row in range(count))


def test_products_over_an_index_are_those_in_memory(bank):
    found, wanted = open_index(write_index(bank)), bank.matrix()
    assert not found.interleaved.blocks.flags.c_contiguous
    rng = np.random.default_rng(1)
    g, alpha = (rng.standard_normal(size).astype(np.float32) for size in (SPEC.bits, len(wanted)))
    np.testing.assert_array_equal(found.dot(g), wanted.dot(g))
    np.testing.assert_allclose(found.dot_many([g, g]), wanted.dot_many([g, g]), rtol=1e-6)
    np.testing.assert_allclose(found.weighted_sum(alpha), wanted.weighted_sum(alpha), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.mean(), wanted.mean())
    weights, left, right = (rng.standard_normal(shape).astype(np.float32) for shape in ((30, 70), (3, 30), (3, 70)))
    for chosen in (None, [[0, 20], [149, 17], [3, 3]]):
        pair = [one.outer_dots("fc1", weights, left, right, chosen) for one in (found, wanted)]
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-4)
    chosen_rows = [5, 149, 33, *range(40, 60)]
    np.testing.assert_array_equal(found.select(chosen_rows).rows, wanted.select(chosen_rows).rows)


def test_a_leader_is_found_in_an_index(tmp_path):
    spec = MaskSpec({"fc1": (100, 200)})
    rng = np.random.default_rng(2)
    with MaskBank.create(tmp_path / "tasks.bank", spec) as bank:
        with bank.transaction():
            for number, mask in enumerate(masks_of(200, spec)):
                bank.put(f"task-{number}", mask)
        found, wanted = open_index(write_index(bank), bank=bank), bank.matrix()
    for row in (0, 77, 199):
        g = (wanted[row].flat() - 0.4) * rng.random(spec.bits) ** 8
        one, other = found.leader(g), wanted.leader(g)
        assert one.row == other.row == row
        assert max(one.share, other.share) < 0.5
        np.testing.assert_allclose(one.products[one.exact], wanted.dot(g)[one.exact], rtol=1e-4, atol=1e-3)
        both = one.exact == other.exact
        np.testing.assert_allclose(one.products[both], other.products[both], rtol=1e-4, atol=1e-3)
        assert both.mean() > 0.9


def test_what_is_usually_large_is_read_first_and_changes_no_answer(tmp_path):
    """Of a file, the first level reads a tenth of the chunks, from the fifth that are usually large."""
    spec, rng = MaskSpec({"fc1": (100, 320)}), np.random.default_rng(3)
    wanted = MaskMatrix(spec, masks_of(400, spec))
    held, parts = wanted.interleaved, []
    by_chunk = np.ascontiguousarray(held.blocks.transpose(1, 0, 2))
    copies = Copies(held.rows()[:400], parts.append)
    found = MaskMatrix.of_blocks(spec, by_chunk.transpose(1, 0, 2), held.tail, copies=copies)
    assert found.mapped
    assert not wanted.mapped
    usual = np.repeat(rng.random(1000) ** 4, 32)
    large = set(np.argsort(-usual.reshape(1000, 32).sum(axis=1))[:200].tolist())
    for row in (5, 399):
        g = (wanted[row].flat() - 0.4) * usual * rng.random(spec.bits) ** 2
        assert found.leader(g, usual=usual).row == wanted.leader(g, usual=usual).row == row
    chunks = [part for part in parts if part.dtype == np.uint32]
    read = [
        chunk + (part.ctypes.data - by_chunk.ctypes.data) // (4 * 400) for part in chunks for chunk in range(len(part))
    ]
    assert len(read) == 2 * 100
    assert set(read) <= large
    with pytest.raises(SpecError, match="flat array"):
        found.leader(g, usual=usual[1:])


def test_a_matrix_of_an_index_is_copied_without_the_file(bank):
    matrix = open_index(write_index(bank))
    again = pickle.loads(pickle.dumps(matrix))
    assert not again.mapped
    np.testing.assert_array_equal(again.rows, matrix.rows)


def test_masks_that_arrive_join_the_matrix_of_an_index(bank):
    matrix, new = open_index(write_index(bank)), masks_of(30, seed=9)
    for number, mask in enumerate(new):
        matrix.append(f"new-{number}", mask)
    assert len(matrix) == 180
    assert matrix["new-29"] == new[29]
    assert matrix["task-3"] == bank["task-3"]
    np.testing.assert_array_equal(matrix.counts(), MaskMatrix(SPEC, [*masks_of(150), *new]).counts())


@pytest.mark.parametrize("change", ["put", "overwrite", "delete"])
def test_an_index_of_other_masks_is_stale(bank, change):
    path = write_index(bank)
    assert index_of(bank).names == tuple(bank)
    if change == "delete":
        bank.delete("task-3")
    else:
        bank.put("task-3" if change == "overwrite" else "new", masks_of(1, seed=7)[0], overwrite=True)
    for ask in (lambda: open_index(path, bank=bank), lambda: index_of(bank)):
        with pytest.raises(StaleIndexError, match=r"expected an index of the masks that .* has, found one of other"):
            ask()
    with pytest.raises(BankExistsError):
        write_index(bank)
    write_index(bank, overwrite=True)
    assert index_of(bank).names == tuple(bank)


def test_without_an_index_masks_are_decoded(bank):
    assert index_of(bank).interleaved.blocks.flags.c_contiguous


def test_files_that_are_no_index_are_refused(tmp_path, bank):
    path = write_index(bank)
    content = path.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(b"\0" * 100)
    with pytest.raises(ForeignFileError, match="expected an index of masks, found another file"):
        open_index(other)
    other.write_bytes(content[:30])
    with pytest.raises(ForeignFileError, match="found a file of 30 bytes"):
        open_index(other)
    other.write_bytes(content[:8] + b"\1" + content[9:])
    with pytest.raises(FormatVersionError, match="of version 2, found version 1; `write_index` writes"):
        open_index(other)
    with pytest.raises(BankNotFoundError):
        open_index(tmp_path / "missing")


def test_damage_is_seen(tmp_path, bank):
    path = write_index(bank)
    content, other = path.read_bytes(), tmp_path / "other"
    rng = np.random.default_rng(0)
    places = [*range(60), *rng.integers(60, len(content), 300).tolist()]
    seen = 0
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        other.write_bytes(changed)
        try:
            open_index(other, verify=True)
        except MaskStoreError:
            seen += 1
    padding = 3 * 4096 / len(content)
    assert seen >= 60 + (1 - 2 * padding) * 300 * 0.9
    for length in (0, 39, 40, 200, 5000, len(content) - 1):
        other.write_bytes(content[:length])
        with pytest.raises(MaskStoreError):
            open_index(other)
    other.write_bytes(content + b"\0")
    with pytest.raises(CorruptError, match="`write_index` writes it anew"):
        open_index(other)
