"""What reading may cost: a small file asks for little memory and time, or says what to pass."""

import json
import os
import shutil
import signal
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskSpec, Reference, account, compact
from maskstore.bank.coding import decode_mask
from maskstore.codecs import Ans, EncodedLayer, Gap, Mix, Raw, Zstd, encode_mask
from maskstore.codecs.coders import gap_loop, mix_model, rans
from maskstore.errors import CorruptError, LimitError, MaskStoreError
from maskstore.priors import SeededScores, Uniform
from tests.helpers.commands import maskstore
from tests.helpers.forged_banks import Forge, layer_data
from tests.helpers.masks import random_mask

GIB = 1 << 30


def huge(tmp_path, *, bits=1 << 33, layers=1, rows=150):
    """Masks of gigabits in a few bytes each, with wrong checksums of bits that nobody should reach."""
    forge = Forge(tmp_path / "huge.bank", spec=json.dumps([[f"l{i}", [bits]] for i in range(layers)]))
    for i in range(rows):
        forge.row(i + 1, f"t{i}", layer_data(*[(b"\0", b"", b"")] * layers), codec='{"id":"gap"}')
    return forge.done()


def zeros(tmp_path, spec, count=3):
    """Empty masks of gigabits, as `put` stores them."""
    mask = Mask(spec, np.zeros(spec.words, dtype=np.uint64))
    with MaskBank.create(tmp_path / "zeros.bank", spec) as bank:
        for i in range(count):
            bank.put(f"t{i}", mask, codec="gap")
    return bank.path


def taking(seconds, work):
    """The error of a call, which must come within a time and without much memory."""
    tracemalloc.start()
    start = time.monotonic()
    try:
        with pytest.raises(MaskStoreError) as caught:
            work()
        assert tracemalloc.get_traced_memory()[1] < GIB // 4
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < seconds
    return caught.value


@pytest.mark.parametrize("layers", [2, 8])
def test_masks_of_gigabytes_in_a_few_bytes_are_refused_by_every_call(tmp_path, layers):
    path = huge(tmp_path, layers=layers)
    with MaskBank.open(path) as bank:
        calls = (
            lambda: bank["t0"],
            bank.verify,
            bank.matrix,
            lambda: bank.matrix(["t3", "t7"]),
            lambda: next(bank.masks()),
            lambda: list(bank.values()),
            lambda: bank.layer("t0", "l1"),
            lambda: bank.dense("t0"),
            lambda: account(bank),
        )
        for call in calls:
            error = taking(10, call)
            assert isinstance(error, LimitError)
            assert "(a larger `limit` allows it, for a file that you trust)" in str(error)
            assert "\n" not in str(error)
        assert bank.info("t0").coded_bytes < 100
        assert len(bank.infos()) == 150
    assert isinstance(taking(10, lambda: compact(path)), LimitError)


def test_a_scan_counts_all_its_masks(tmp_path):
    """Each of these alone may be read, and four of them together; a hundred are refused before they are decoded."""
    size = 1 << 20
    path = zeros(tmp_path, MaskSpec({"a": (8 * size,)}), count=6)
    with MaskBank.open(path, limit=4 * size) as bank:
        assert bank["t3"].ones == 0
        assert len(bank.matrix(list(bank)[:4])) == 4
        for scan in (bank.verify, bank.matrix, lambda: sum(1 for _ in bank.masks()), lambda: bank.matrix(list(bank))):
            with pytest.raises(LimitError, match="mask 't4'"):
                scan()
    with MaskBank.open(path, limit=6 * size) as bank:
        assert bank.verify() == 6


def test_sparse_masks_of_a_billion_bits_are_in_ordinary_use(tmp_path):
    spec = MaskSpec({"a": (1000, 1000, 999), "b": (1000, 1000)})
    path = zeros(tmp_path, spec)
    with MaskBank.open(path) as bank:
        assert bank["t0"].spec.bits == 10**9
        assert bank.layer("t1", "b").sum() == 0
        assert bank.verify() == 3


def test_unpacked_bits_are_counted(tmp_path, capsys):
    """As packed words they are few, as bytes eight times as many."""
    path = zeros(tmp_path, MaskSpec({"a": (8 * 1000,)}))
    for limit, well in ((8999, False), (9000, True)):
        with MaskBank.open(path, limit=limit) as bank:
            for read in (lambda bank=bank: bank.dense("t0")["a"], lambda bank=bank: bank.layer("t0", "a")):
                if well:
                    assert read().sum() == 0
                else:
                    with pytest.raises(LimitError):
                        read()
            assert bank["t0"].ones == 0
    path = huge(tmp_path, bits=1 << 31, rows=1)
    assert maskstore("get", str(path), "t0", "-o", str(tmp_path / "x.npz")) == 1
    assert "mask 't0': expected to decode at most" in capsys.readouterr().err


def test_a_limit_holds_for_who_writes_too(tmp_path):
    spec = MaskSpec({"a": (8000,)})
    with MaskBank.create(tmp_path / "a.bank", spec, limit=999) as bank:
        bank.put("t", random_mask(spec, 0.5, 0), codec="raw")
        with pytest.raises(LimitError):
            bank["t"]
    with MaskBank.open(bank.path, "a", limit=1000) as bank:
        assert bank["t"] == random_mask(spec, 0.5, 0)


def test_masks_that_others_need_are_counted(tmp_path):
    spec = MaskSpec({"a": (8000,)})
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put("base", random_mask(spec, 0.5, 0), codec="raw")
        bank.put("one", random_mask(spec, 0.5, 0), codec="raw", prior=Reference("base"))
    for limit, well in ((1999, False), (2000, True)):
        with MaskBank.open(bank.path, limit=limit) as bank:
            if well:
                assert bank["one"] == bank["base"]
            else:
                with pytest.raises(LimitError):
                    bank["one"]


@pytest.mark.parametrize("density", [0.5, 0.01, 0.0005])
@pytest.mark.parametrize("prior", [Uniform(), SeededScores(1, 1)])
def test_what_is_coded_in_ordinary_ways_earns_what_it_costs(density, prior):
    """Files of ordinary masks never meet the default: the coded bytes allow for more than their decoding costs."""
    spec = MaskSpec({"a": (300, 500), "b": (200, 300)})
    mask = random_mask(spec, density, 1)
    for codec in (Raw(), Zstd(), Gap(), Ans(), Mix()):
        _, layers = encode_mask(codec, mask, prior)
        for layer, coded in zip(spec, layers, strict=True):
            size = len(coded.side) + len(coded.payload)
            assert codec.cost(coded, layer) <= 512 * codec.weight * size


def test_a_slow_codec_is_refused_sooner():
    layer = MaskSpec({"a": (1 << 26,)})["a"]
    coded = EncodedLayer(b"\0", bytes(10_000))
    assert [codec.cost(coded, layer) > GIB for codec in (Raw(), Ans(), Mix())] == [False, False, True]


def test_mix_that_claims_gigabits_in_ten_kilobytes(tmp_path):
    bits = 2_900_000_000
    data = layer_data((b"\0" + bytes(20), bytes(10_000), b""))
    path = Forge(tmp_path / "a.bank", spec=json.dumps([["a", [bits]]])).row(data=data, codec='{"id":"mix"}').done()
    with MaskBank.open(path) as bank:
        assert isinstance(taking(10, lambda: bank["t"]), LimitError)
        assert isinstance(taking(10, bank.verify), LimitError)


@pytest.mark.parametrize("codec", [Gap(), Ans(), Mix()])
@pytest.mark.parametrize("sizes", [(64, 1, 1), (128, 7, 64), (1 << 20, 5, 111)])
def test_pieces_are_the_whole(monkeypatch, codec, sizes):
    spec = MaskSpec({"a": (37, 41), "b": (501,), "c": (1, 7), "d": (128, 2)})
    mask = random_mask(spec, 0.2, 3)
    _, expected = encode_mask(codec, mask, SeededScores(1, 1))
    for module, size in zip((rans, gap_loop, mix_model), sizes, strict=True):
        monkeypatch.setattr(module, "_PIECE", size)
    _, layers = encode_mask(codec, mask, SeededScores(1, 1))
    assert layers == expected
    for index, (layer, coded) in enumerate(zip(spec, layers, strict=True)):
        words = codec.decode_layer(coded, layer, lambda i=index: SeededScores(1, 1).contexts(spec, i))
        assert words.tolist() == mask.words[layer.packed].tolist()


def _slow_bank(tmp_path):
    """Masks of a few seconds each, whose bits nobody checks before they are decoded."""
    spec = MaskSpec({"a": (3000, 4000)})
    _, (small,) = encode_mask(Mix(), random_mask(MaskSpec({"a": (64, 64)}), 0.5, 0), Uniform())  # compiles the loop
    data = layer_data((small.side, bytes(range(1, 256)) * 40, b""))
    forge = Forge(tmp_path / "a.bank", spec=spec.to_json())
    for i in range(4):
        forge.row(i + 1, f"t{i}", data, codec='{"id":"mix"}')
    return forge.done()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("scan", [False, True])
def test_ctrl_c_is_answered_while_masks_are_decoded(tmp_path, scan):
    path = _slow_bank(tmp_path)
    with MaskBank.open(path, limit=1 << 40) as bank:
        row = bank.record("t0")
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores SIGINT
        timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        start = time.process_time()  # a busy machine makes it no longer
        try:
            with pytest.raises(KeyboardInterrupt):
                list(bank.masks()) if scan else decode_mask(row, bank.spec)
        finally:
            timer.cancel()
            signal.signal(signal.SIGINT, before)
        assert time.process_time() - start < 3  # all masks take more than ten


def _forge_log(path, pages):
    """Add a page 1 that claims so many pages to the log of a bank, as SQLite's page on its file format says."""
    log = path.with_name(path.name + "-wal")
    data, bank = log.read_bytes(), path.read_bytes()
    size = 512
    order = ">" if data[3] & 1 else "<"

    def checksum(a, b, part):
        words = struct.unpack(f"{order}{len(part) // 4}I", part)
        for i in range(0, len(words), 2):
            a = (a + words[i] + b) & 0xFFFFFFFF
            b = (b + words[i + 1] + a) & 0xFFFFFFFF
        return a, b

    last = struct.unpack(">2I", data[-size - 8 : -size])
    page = bank[:28] + struct.pack(">I", pages) + bank[32:92] + bank[24:28] + bank[96:size]
    head = struct.pack(">2I", 1, pages)
    last = checksum(*checksum(*last, head), page)
    log.write_bytes(data + head + data[16:24] + struct.pack(">2I", *last) + page)


def _in_mode(path, mode, work):
    with MaskBank.open(path, mode) as bank:
        work(bank)


FORGED_LOG = {
    "account": lambda path: _in_mode(path, "r", account),
    "verify": lambda path: _in_mode(path, "r", MaskBank.verify),
    "compact": compact,
    "put": lambda path: _in_mode(path, "a", lambda bank: bank.put("new", bank["t0"])),
    "delete": lambda path: _in_mode(path, "a", lambda bank: bank.delete("t0")),
}


@pytest.mark.parametrize("work", FORGED_LOG)
def test_a_log_that_claims_a_gigabyte(tmp_path, work):
    spec = MaskSpec({"a": (80,)})
    mask, path = random_mask(spec, 0.5, 0), tmp_path / "b.bank"
    with MaskBank.create(tmp_path / "a.bank", spec, page_size=512) as writer:
        writer.put("t0", mask)
        for ending in ("", "-wal"):
            shutil.copy(tmp_path / f"a.bank{ending}", tmp_path / f"b.bank{ending}")
    _forge_log(path, 1 << 21)
    with MaskBank.open(path) as bank:
        assert bank["t0"] == mask  # the log is one that SQLite takes
        with bank._file.reading() as link:
            assert link.execute("PRAGMA page_count").fetchone() == (1 << 21,)
    assert isinstance(taking(10, lambda: FORGED_LOG[work](path)), CorruptError)
