"""Large masks in blocks: each part is coded, read and decoded alone, in little memory, and every bit is guarded."""

import os
import tracemalloc

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskSpec, Reference, account, compact
from maskstore.bank import blocks, coding
from maskstore.bank.record import Record
from maskstore.errors import BankClosedError, CorruptError, LimitError, MaskStoreError, MaskValueError, SpecError
from maskstore.interop import ShardReader, merge, write_shard
from maskstore.masks import Cut
from maskstore.priors import SeededScores, Uniform
from tests.helpers.masks import random_mask
from tests.helpers.small_blocks import put_in_blocks

LARGE = MaskSpec({"band": (3000, 1001), "none": (3, 0), "one": (7,), "run": (1_300_001,), "wide": (2, 600_001)})


@pytest.fixture(scope="module")
def mask():
    return random_mask(LARGE, 0.1, 1)


@pytest.fixture
def bank(tmp_path, mask):
    with MaskBank.create(tmp_path / "a.bank", LARGE, meta={"seed": 1}) as bank:
        bank.put("t", mask, extras={"mean": np.arange(3.0)}, meta={"accuracy": 0.5})
        yield bank


@pytest.mark.parametrize(
    "shape", [(7000, 7168), (70, 1 << 20), (1 << 22,), (1, 1 << 21), (40, 64, 33, 31), (3, 5), (0, 5)]
)
@pytest.mark.parametrize("digits", [16, 20, 24])
def test_blocks_are_the_layer_end_to_end(shape, digits):
    layer = MaskSpec({"a": shape})["a"]
    cut = Cut.of(layer, digits)
    found = list(cut)
    assert sum(block.size for block in found) == layer.size
    assert [block.flat_start for block in found] == list(np.cumsum([0, *(block.size for block in found)])[:-1])
    for block in found[:-1]:
        assert block.size % 64 == 0
        assert block.size <= 1 << digits
    assert all(int(np.prod(block.shape)) == block.size for block in found)
    if len(found) > 1 and len(found[0].shape) > 1:
        assert all(block.shape[1:] == shape[1:] for block in found)
    with pytest.raises(IndexError):
        cut[len(cut)]


@pytest.mark.parametrize("prior", [SeededScores(3, 1), Reference("t")])
def test_contexts_of_blocks_are_those_of_the_layer(mask, prior):
    for index, layer in enumerate(LARGE):
        if layer.size:
            whole = prior.contexts(LARGE, index, [mask][: prior.needs[-1]])
            parts = [prior.contexts(LARGE, index, [mask][: prior.needs[-1]], block) for block in Cut.of(layer, 18)]
            assert np.array_equal(whole.ids, np.concatenate([part.ids for part in parts]))


def test_any_part_can_be_read(bank, mask):
    dense = mask.dense()
    assert bank["t"] == mask
    assert bank.info("t").codec["id"] == "blocks"
    assert bank.extras("t")["mean"].tolist() == [0, 1, 2]
    for name, layer in dense.items():
        assert np.array_equal(bank.layer("t", name), layer)
        for rows in (slice(0, 1), slice(999, 1900), slice(None), slice(9, 2, -1), slice(3, 10**9, 77), slice(5, 5)):
            assert np.array_equal(bank.layer("t", name, rows=rows), layer[rows])
    for rows in (3, (1, 2)):
        with pytest.raises(SpecError, match="rows: expected a slice"):
            bank.layer("t", "band", rows=rows)
    assert bank.verify() == 1
    assert account(bank).layers[0].ones == int(dense["band"].sum())


def test_a_part_is_read_without_the_rest(bank, monkeypatch):
    read = []
    original = blocks.Unread.__getitem__

    def counted(self, place):
        found = original(self, place)
        read.append(len(found))
        return found

    monkeypatch.setattr(blocks.Unread, "__getitem__", counted)
    bank.layer("t", "band", rows=slice(1000, 1100))
    assert sum(read) < bank.info("t").coded_bytes // 2
    read.clear()
    bank.layer("t", "one")
    assert sum(read) < 1000


def test_layers_are_decoded_when_they_are_used(bank, mask, monkeypatch):
    decoded = []
    original = blocks.BlockDecoder.decode

    def noted(self, index, *arguments):
        decoded.append(index)
        original(self, index, *arguments)

    monkeypatch.setattr(blocks.BlockDecoder, "decode", noted)
    found = bank["t"]
    bank.close()
    assert decoded == [2]  # plain bits
    assert np.array_equal(found["one"], mask["one"])
    assert decoded == [2]
    assert found.layer_bytes("run").tolist() == mask.layer_bytes("run").tolist()
    assert set(decoded) == {2, 3}
    assert found == mask
    assert found["band"].tolist() == mask["band"].tolist()
    assert found.nbytes == mask.nbytes


def test_blocks_of_every_kind_in_one_layer_are_held(bank):
    """Some plain, some coded; a layer at a time and all together."""
    rng = np.random.default_rng(3)
    dense = {layer.name: rng.random(layer.shape) < 0.5 for layer in LARGE}
    dense["band"][1200:] &= rng.random((1800, 1001)) < 0.02
    bank.put("mixed", dense)
    found = bank["mixed"]
    for name, layer in dense.items():
        assert np.array_equal(found[name], layer)
    assert found == Mask.from_dense(dense)
    for name, layer in dense.items():
        assert np.array_equal(found[name], layer)


def test_what_a_mask_may_be_given_as(tmp_path, mask):
    dense = mask.dense()
    stored = np.lib.format.open_memmap(tmp_path / "band.npy", "w+", bool, (3000, 1001))
    stored[:] = dense["band"]
    ways = {
        "packed": mask,
        "dict": {**dense, "band": np.asfortranarray(dense["band"].astype(np.float32))},
        "memory map": {**dense, "band": np.load(tmp_path / "band.npy", mmap_mode="r")},
        "pairs": ((layer.name, dense[layer.name]) for layer in LARGE),
        "lists": {**dense, "one": dense["one"].tolist()},
    }
    with MaskBank.create(tmp_path / "a.bank", LARGE) as bank:
        for name, masks in ways.items():
            bank.put(name, masks)
            assert bank[name] == mask, name


def test_an_open_safetensors_file_is_put_without_reading_it_whole(tmp_path, mask):
    numpy_files = pytest.importorskip("safetensors.numpy")
    import safetensors

    numpy_files.save_file({name: layer.copy() for name, layer in mask.dense().items()}, tmp_path / "a.safetensors")
    with (
        safetensors.safe_open(tmp_path / "a.safetensors", framework="numpy") as file,
        MaskBank.create(tmp_path / "a.bank", LARGE) as bank,
    ):
        bank.put("t", file)
        assert bank["t"] == mask
    small = MaskSpec({"a": (3, 4)})
    numpy_files.save_file({"a": np.eye(3, 4, dtype=bool)}, tmp_path / "b.safetensors")
    with (
        safetensors.safe_open(tmp_path / "b.safetensors", framework="numpy") as file,
        MaskBank.create(tmp_path / "b.bank", small) as bank,
    ):
        bank.put("t", file)
        assert bank["t"].ones == 3


WRONG = {
    "no more": (lambda dense: list(dense.items())[:-1], SpecError, "expected 'wide' next, found no more"),
    "another": (lambda dense: list(dense.items())[::-1], SpecError, "expected 'band' next, as in the spec"),
    "more": (lambda dense: [*dense.items(), ("x", [1])], SpecError, "expected 5 of them, found more"),
    "no pairs": (lambda dense: list(dense), SpecError, "or .name, array. pairs, found list of str"),
    "text": (lambda dense: "band", SpecError, "expected a Mask, a dict"),
    "number": (lambda dense: 3, SpecError, "expected a Mask, a dict"),
    "name": (lambda dense: {**dense, "x": [1]}, MaskStoreError, "'x'"),
    "missing": (lambda dense: {"one": dense["one"]}, SpecError, "found none named"),
    "shape": (lambda dense: {**dense, "run": dense["run"][1:]}, SpecError, "layer 'run': expected shape"),
    "value": (lambda dense: {**dense, "run": dense["run"] * 2}, MaskValueError, "layer 'run': expected values 0 and 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_mask_leaves_no_trace(bank, mask, case):
    given, kind, text = WRONG[case]
    with pytest.raises(kind, match=text):
        bank.put("new", given(mask.dense()))
    assert list(bank) == ["t"]
    assert bank.verify() == 1


def test_blocks_travel(bank, mask, tmp_path):
    """Into another bank, a shard, and out of both; replaced, referred to and compacted."""
    bank.put("near", mask ^ random_mask(LARGE, 0.001, 7), prior=Reference("t"))
    near = bank["near"]
    write_shard(bank, tmp_path / "a.shard")
    merge([bank.path], tmp_path / "b.bank")
    with ShardReader(tmp_path / "a.shard") as shard, MaskBank.open(tmp_path / "b.bank", "a") as other:
        for source in (shard, other):
            assert source["t"] == mask
            assert source["near"] == near
            assert np.array_equal(source.layer("near", "band", rows=slice(5, 9)), near["band"][5:9])
        other.put("t", {layer.name: np.zeros(layer.shape) for layer in LARGE}, overwrite=True)
        assert other["near"] == near
        other.put("t", mask, overwrite=True)
        assert not account(other).snapshots  # the mask is there again, and is not kept twice
        assert other["near"] == near
    assert compact(tmp_path / "b.bank", level="fast").bytes_after > 0
    with MaskBank.open(tmp_path / "b.bank") as other:
        assert other["t"] == mask
        assert other.verify() == 2


@pytest.mark.parametrize("density", [0, 0.0003, 0.5, 1])
@pytest.mark.parametrize("codec", ["auto", "raw", "zstd", "gap", "ans"])
def test_small_masks_can_be_in_blocks_too(tmp_path, monkeypatch, density, codec):
    put_in_blocks(monkeypatch)
    spec = MaskSpec({"a": (300, 500), "b": (), "c": (0,), "d": (5, 3)})
    mask = random_mask(spec, density, 3)
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        for prior in (Uniform(), SeededScores(2, 1)):
            bank.put("t", mask, codec=codec, prior=prior, overwrite=True)
            assert bank["t"] == mask
            assert bank.layer("t", "b") == mask["b"]


def test_columns_of_own_densities_are_long(tmp_path):
    """A block says how dense each of its columns is, so it has many rows."""
    spec = MaskSpec({"a": (3000, 3000)})
    rng = np.random.default_rng(0)
    shares = rng.random((1, 3000))
    mask = Mask.from_dense({"a": rng.random((3000, 3000)) < shares})
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put("t", mask)
        assert bank["t"] == mask
        assert np.array_equal(bank.layer("t", "a", rows=slice(1100, 1110)), mask.layer("a")[1100:1110])
        bits = -(shares * np.log2(shares) + (1 - shares) * np.log2(1 - shares)).mean()
        assert 8 * bank.info("t").coded_bytes < 1.01 * bits * spec.bits


def test_memory_stays_small(tmp_path):
    """`put` holds a few blocks of 128 KiB a core, and reading rows those of the rows."""
    spec = MaskSpec({"a": (8000, 8000)})
    words = np.frombuffer(np.random.default_rng(0).bytes(8 * spec.words), dtype=np.uint64)
    mask = Mask(spec, words)
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put("warm", mask)
        tracemalloc.start()
        try:
            bank.put("t", mask)
            assert tracemalloc.get_traced_memory()[1] < 4e6 + 6e5 * (os.cpu_count() or 1)
            tracemalloc.reset_peak()
            bank.layer("t", "a", rows=slice(4000, 4100))
            assert tracemalloc.get_traced_memory()[1] < 4e6
        finally:
            tracemalloc.stop()
        assert bank["t"] == mask


def test_the_file_is_little_more_than_its_payload(tmp_path):
    for bits in (10**4, 10**5, 10**6, 10**7):
        spec = MaskSpec({"a": (bits // 100, 100)})
        for density in (0.1, 0.5):
            with MaskBank.create(tmp_path / f"{bits}-{density}.bank", spec) as bank:
                bank.put("t", random_mask(spec, density, 1))
            with MaskBank.open(bank.path) as bank:
                payload = account(bank).payload_bytes
            assert bank.path.stat().st_size <= 1.01 * payload + 6144


def test_limits_hold_for_blocks(bank, mask):
    with MaskBank.open(bank.path, limit=mask.nbytes // 2) as small:
        for read in (lambda: small["t"], small.verify, small.matrix, lambda: small.layer("t", "band")):
            with pytest.raises(LimitError):
                read()
        assert small.layer("t", "one").shape == (7,)


def record_of(bank):
    return bank._of_record("t", lambda record: Record(**{**vars(record), "data": record.data[:]}))


def checked_and_decoded(record):
    coding.check_own_sum(record)
    return coding.decode_mask(record, LARGE)


def test_a_changed_bit_is_found_wherever_it_is(bank, mask):
    """In a block, in the table and in its length; by who decodes, and by who only copies."""
    record = record_of(bank)
    dense = mask.dense()
    rng = np.random.default_rng(5)
    places = [*rng.integers(0, 8 * len(record.data), 60), *(8 * len(record.data) - 1 - rng.integers(0, 800, 60))]
    for place in map(int, places):
        data = bytearray(record.data)
        data[place // 8] ^= 1 << place % 8
        wrong = Record(**{**vars(record), "data": bytes(data)})
        with pytest.raises(CorruptError):
            coding.check_sum(wrong)
        with pytest.raises(CorruptError):
            checked_and_decoded(wrong)
        try:
            coding.check_own_sum(wrong)
            rows = coding.decode_one(wrong, LARGE, 0, slice(100, 200))
        except CorruptError:
            continue
        assert np.array_equal(rows, dense["band"][100:200])


FORGED = {
    "no table": lambda data: b"",
    "half a table": lambda data: data[-300:],
    "too many blocks": lambda data: data[:-4] + b"\xff\xff\xff\xff",
    "no layers": lambda data: data[:-8] + b"\0\0\0\0" + data[-4:],
    "digits": lambda data: data[: -8 - table_bytes(data)] + b"\x0f" + data[-7 - table_bytes(data) :],
    "many digits": lambda data: data[: -8 - table_bytes(data)] + b"\x19" + data[-7 - table_bytes(data) :],
    "another cut": lambda data: data[: -8 - table_bytes(data)] + b"\x15" + data[-7 - table_bytes(data) :],
    "a codec": lambda data: data[: -8 - 17] + b"\x7f" + data[-8 - 16 :],
    "a longer block": lambda data: data[: -8 - 12] + b"\xff\xff\xff\xff" + data[-8 - 8 :],
}


def table_bytes(data):
    layers, count = np.frombuffer(data[-8:], dtype="<u4").tolist()
    return layers + 17 * count


@pytest.mark.parametrize("case", FORGED)
def test_forged_tables_are_refused(bank, case):
    """By whoever makes the checksum of the row too."""
    record = record_of(bank)
    wrong = Record(**{**vars(record), "data": FORGED[case](record.data), "checksum": b""})
    with pytest.raises(CorruptError) as caught:
        coding.decode_mask(coding.sealed(wrong, 1), LARGE)
    assert "\n" not in str(caught.value)
    with pytest.raises(CorruptError):
        coding.decode_one(coding.sealed(wrong, 1), LARGE, 0, slice(0, 10))


LAYOUTS = [
    '{"id":"blocks"}',
    '{"id":"blocks","of":3}',
    '{"id":"blocks","of":[{"id":"blocks","of":[]}]}',
    '{"id":"blocks","of":[],"x":1}',
    '{"id":"blocks","of":[{"id":"raw"}]',
    '{"id":"blocks"]',
]


@pytest.mark.parametrize("text", LAYOUTS)
def test_forged_layouts_are_refused(bank, text):
    wrong = coding.sealed(Record(**{**vars(record_of(bank)), "codec": text}), 1)
    with pytest.raises(MaskStoreError):
        coding.decode_mask(wrong, LARGE)


def test_a_closed_bank_says_so(bank):
    bank.close()
    with pytest.raises(BankClosedError):
        bank.layer("t", "one", rows=slice(0, 1))
