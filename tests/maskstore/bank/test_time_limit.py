"""`time_limit`: whatever a file or a message of a stranger holds, reading it ends in time."""

import os
import pickle
import signal
import sqlite3
import struct
import threading
import time
import tracemalloc
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskSpec, compact, decode_mask, encode_mask, open_source, time_limit
from maskstore.codecs import Mix
from maskstore.codecs import encode_mask as code
from maskstore.errors import ArgumentTypeError, CorruptError, LimitError, SpecError, TimeLimitError
from maskstore.files import name_bounds, statements, stopping
from maskstore.interop import read_masks, write_shard
from maskstore.messages import coding as messages
from maskstore.priors import Uniform
from tests.helpers.forged_banks import Forge, layer_data
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"a": (3000, 4000)})
SOON = 0.2


def slow_data() -> bytes:
    """The data of a mask that takes seconds to decode, and then has a wrong checksum."""
    _, (small,) = code(Mix(), random_mask(MaskSpec({"a": (64, 64)}), 0.5, 0), Uniform())  # compiles the loop
    return layer_data((small.side, bytes(range(1, 256)) * 40, b""))


@pytest.fixture(scope="module")
def slow_bank(tmp_path_factory) -> Path:
    forge = Forge(tmp_path_factory.mktemp("slow") / "a.bank", spec=SPEC.to_json())
    data = slow_data()
    for i in range(4):
        forge.row(i + 1, f"t{i}", data, codec='{"id":"mix"}')
    return forge.done()


def late(work, seconds=SOON):
    """`work` ends with the named error, and takes little processor time beyond the limit."""
    start = time.process_time()
    with (
        pytest.raises(TimeLimitError, match=r"expected an end within [0-9.]+ s, found more to do"),
        time_limit(seconds),
    ):
        work()
    assert time.process_time() - start < seconds + 2  # each of the works would take four seconds and more


READING = {
    "get": lambda bank: bank["t0"],
    "layer": lambda bank: bank.layer("t1", "a"),
    "rows": lambda bank: bank.layer("t1", "a", rows=slice(5)),
    "dense": lambda bank: bank.dense("t1"),
    "matrix": MaskBank.matrix,
    "some": lambda bank: bank.matrix(["t2", "t1"]),
    "scan": lambda bank: list(bank.masks()),
    "verify": MaskBank.verify,
}


@pytest.mark.parametrize("reading", READING)
def test_masks_that_take_long_to_decode(slow_bank, reading):
    with MaskBank.open(slow_bank, limit=1 << 40) as bank:
        late(lambda: READING[reading](bank))
        assert bank.info("t0").codec == {"id": "mix"}  # nothing of the limit stays


def test_files_made_of_them(slow_bank, tmp_path):
    late(lambda: compact(slow_bank, limit=1 << 40))
    with MaskBank.open(slow_bank) as bank:
        write_shard(bank, tmp_path / "a.shard")
        late(lambda: write_shard(bank, tmp_path / "b.shard"), 0.0)
    assert not (tmp_path / "b.shard").exists()
    with open_source(tmp_path / "a.shard", limit=1 << 40) as shard:
        late(lambda: shard["t0"])
        late(shard.verify)


def test_a_message(monkeypatch):
    data = slow_data()
    monkeypatch.setattr(messages, "encode_data", lambda *_: ('{"id":"mix"}', data))
    message = encode_mask(Mask(SPEC, np.zeros(SPEC.words, dtype=np.uint64)))
    late(lambda: decode_mask(message, SPEC, limit=1 << 40))


def test_files_of_other_programs(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", fc1=np.zeros((1000, 1000), dtype=bool))
    late(lambda: read_masks(tmp_path / "a.npz"), 0.0)
    monkeypatch.setattr("maskstore.files.npz._PIECE", 1000)
    monkeypatch.setattr("maskstore.files.claims.check_wanted", lambda: None)  # as if only unpacking took long
    late(lambda: read_masks(tmp_path / "a.npz"), 0.0)
    monkeypatch.undo()
    pytest.importorskip("torch")  # importing it takes longer than what is measured
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(list(range(300_000))))
        archive.writestr("archive/version", "3")
    late(lambda: read_masks(tmp_path / "a.pt"), 0.05)


def test_a_change_that_does_not_end_in_time_changes_nothing(tmp_path):
    mask = random_mask(MaskSpec({"a": (80, 80)}), 0.5, 0)
    with MaskBank.create(tmp_path / "a.bank", mask.spec) as bank:
        bank.put("t0", mask)
        late(lambda: bank.put("t1", mask), 0.0)
        with pytest.raises(TimeLimitError):
            _put_for_ever(bank, mask)
        bank.put("last", mask)
        assert list(bank) == ["t0", "last"]
    with MaskBank.open(bank.path) as bank:
        assert bank.verify() == 2


def _put_for_ever(bank, mask):
    with bank.transaction(), time_limit(0.05):
        for i in range(10**9):
            bank.put(f"t{i + 2}", mask)


def test_the_shorter_time_counts_and_none_is_left_behind():
    with time_limit(60):
        with time_limit(0), pytest.raises(TimeLimitError, match="within 0 s"):
            stopping.check_wanted()
        stopping.check_wanted()
        with time_limit(60):
            stopping.check_wanted()
    with time_limit(0), time_limit(60), pytest.raises(TimeLimitError, match="within 0 s"):
        stopping.check_wanted()
    assert stopping.wanted_now() == ()
    assert issubclass(TimeLimitError, LimitError)


@pytest.mark.parametrize(("value", "error"), [("5", ArgumentTypeError), (None, ArgumentTypeError), (-1, SpecError)])
def test_no_seconds(value, error):
    with pytest.raises(error, match=r"^seconds: expected "), time_limit(value):
        pass


# -- trees of pages that stand for more rows than have room ------------------------------------------------------------


def forged_tree(path: Path, *, depth: int, fan: int = 40, name: str = "t{}", meta: str = "{}") -> Path:
    """A bank of three masks, in whose table every inner page points `fan` times to the next one."""
    forge = Forge(path)
    for i in range(1, 4):
        forge.row(i, name.format(i), meta=meta)
    forge.done()
    link = sqlite3.connect(path)
    (root,) = link.execute("SELECT rootpage FROM sqlite_schema WHERE name='masks'").fetchone()
    link.close()
    data, size = bytearray(path.read_bytes()), 512
    last = len(data) // size
    leaf = bytes(data[(root - 1) * size : root * size])
    pages = [_inner(last + level, fan, size) for level in range(1, depth + 1)]
    data[(root - 1) * size : root * size] = pages[0]
    data += b"".join(pages[1:]) + leaf
    data[28:32], data[92:96] = struct.pack(">I", len(data) // size), data[24:28]
    path.write_bytes(data)
    return path


def _inner(child: int, fan: int, size: int) -> bytes:
    cells = b"".join(struct.pack(">I", child) + bytes([key + 1]) for key in range(fan))
    start = size - len(cells)
    head = struct.pack(">BHHHBI", 5, 0, fan, start, 0, child)
    head += b"".join(struct.pack(">H", start + 5 * key) for key in range(fan))
    return head + bytes(start - len(head)) + cells


WALKS = {
    "names": list,
    "count": len,
    "stamp": MaskBank.stamp,
    "infos": MaskBank.infos,
    "no such name": lambda bank: "zz" in bank,
    "matrix": MaskBank.matrix,
    "verify": MaskBank.verify,
}


@pytest.mark.parametrize("walk", WALKS)
def test_a_tree_of_more_rows_than_have_room(tmp_path, monkeypatch, walk):
    """10 000 000 000 000 rows in 6 KB: no answer takes long, and none takes memory for them."""
    monkeypatch.setattr(statements, "FREE_LOOKS", 8)
    path = forged_tree(tmp_path / "a.bank", depth=8)
    tracemalloc.start()
    start = time.process_time()
    try:
        with MaskBank.open(path) as bank, nullcontext() if walk == "stamp" else pytest.raises(CorruptError):
            WALKS[walk](bank)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 5


@pytest.mark.parametrize("texts", [{"name": "t{}" + 300_000 * "x"}, {"meta": f'{{"a":"{300_000 * "x"}"}}'}])
def test_rows_that_share_their_texts_are_not_all_read(tmp_path, texts):
    """4 800 rows of 300 KB each in a file of 600 KB to 1 MB."""
    path = forged_tree(tmp_path / "a.bank", depth=2, **texts)
    tracemalloc.start()
    try:
        with MaskBank.open(path) as bank, pytest.raises(CorruptError, match=r"expected texts of at most \d+ bytes"):
            list(bank)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_a_tree_is_left_in_time(tmp_path, monkeypatch):
    path = forged_tree(tmp_path / "a.bank", depth=8)
    late(lambda: len(MaskBank.open(path)))
    monkeypatch.setattr(statements, "FREE_LOOKS", 1 << 40)  # the test can fail: nothing else ends it
    late(lambda: len(MaskBank.open(path)))


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_is_not_lost_in_a_statement(tmp_path):
    path = forged_tree(tmp_path / "a.bank", depth=8)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt), time_limit(60):
            len(MaskBank.open(path))
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def test_ordinary_statements_are_far_from_the_bound(tmp_path, monkeypatch):
    """A bank of many small masks, with a tenth of the steps and with no rows for free."""
    monkeypatch.setattr(statements, "LOOK", 1 << 8)
    monkeypatch.setattr(statements, "FREE_LOOKS", 0)
    monkeypatch.setattr(statements, "LOOKS_A_BYTE", 6.4 / (1 << 8))
    monkeypatch.setattr(statements, "_FREE_ROWS", 0)
    mask = random_mask(MaskSpec({"a": (4, 2)}), 0.5, 0)
    path = tmp_path / "a.bank"
    with MaskBank.create(path, mask.spec, page_size=512) as bank, bank.transaction():
        for i in range(300):
            bank.put(f"t{i}", mask)
    with MaskBank.open(path, "a") as bank:
        assert len(bank) == len(list(bank)) == bank.verify() == 300
        bank.delete("t5")
        assert "t5" not in bank
    assert compact(path).tasks == 299
    link = sqlite3.connect(path)
    name_bounds(link, path)
    assert link.execute("SELECT most_rows()").fetchone()[0] >= 299
    link.close()
