"""Masks of up to 10⁹ bits: put and get, the file around the payload, peak memory, and rows out of a large layer.

`pytest benchmarks/ -k large -s`, with `--full` on 10⁹ bits. Bits a second and processor time of this machine are
printed, in blocks on all cores and, in the same run, in one piece on one core.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time, sleep

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskSpec, account
from maskstore.interop import merge, read_masks, store, write_npz, write_safetensors, write_shard
from tests.helpers.masks import random_mask

MIB = 1 << 20
WARM = MaskSpec({"a": (2100, 2000)})
PROJECTION = MaskSpec({"down": (7000, 7168)})


class Peak:
    """How much memory the process had at most in the block, beyond what it had before."""

    bytes = 0


@contextmanager
def peak() -> Iterator[Peak]:
    """Look at the resident memory every few milliseconds; where it cannot be seen, 0 is reported."""
    statm, found, ended = Path("/proc/self/statm"), Peak(), threading.Event()
    resident = (lambda: 4096 * int(statm.read_text().split()[1])) if statm.exists() else (lambda: 0)
    before = resident()

    def watch() -> None:
        while not ended.is_set():
            found.bytes = max(found.bytes, resident() - before)
            sleep(0.003)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def spec_of(bits: int) -> MaskSpec:
    """Twenty layers, or one of a small mask."""
    if bits < 10**7:
        return MaskSpec({"a": (bits // 100, 100)})
    return MaskSpec({f"l{i}": (bits // 20 // 5000, 5000) for i in range(20)})


def two_of_four(spec: MaskSpec) -> Mask:
    """Two of every four neighbours in a row."""
    kept = np.array([0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100], dtype=np.uint8)
    rng = np.random.default_rng(0)
    words = np.empty(spec.words, dtype=np.uint64)
    for layer in spec:
        halves = kept[rng.integers(0, 6, size=(layer.size // 8, 2), dtype=np.uint8)]
        packed = np.zeros(8 * layer.words, dtype=np.uint8)
        packed[: layer.size // 8] = halves[:, 0] | halves[:, 1] << 4
        words[layer.packed] = packed.view("<u8")
    words.flags.writeable = False
    return Mask(spec, words)


def independent(spec: MaskSpec, density: float) -> Mask:
    """Independent bits of a density."""
    rng = np.random.default_rng(0)
    words = np.zeros(spec.words, dtype=np.uint64)
    for layer in spec:
        for first in range(0, layer.size, 1 << 24):  # a float for each bit of all would be gigabytes
            count = min(1 << 24, layer.size - first)
            packed = np.packbits(rng.random(count, dtype=np.float32) < density, bitorder="little")
            words[layer.packed].view(np.uint8)[first // 8 :][: packed.size] = packed
    words.flags.writeable = False
    return Mask(spec, words)


MASKS = {
    "density 1/2": lambda spec: independent(spec, 0.5),
    "density 0.1": lambda spec: independent(spec, 0.1),
    "2:4": two_of_four,
}


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiles all loops."""
    with MaskBank.create(tmp_path_factory.mktemp("warm") / "a.bank", WARM) as bank:
        for kind, make in MASKS.items():
            bank.put(kind, make(WARM))
            assert bank[kind].words.size == WARM.words


def timed_put(path: Path, mask: Mask) -> tuple[float, float, float]:
    """(seconds, processor seconds, peak bytes) of a put with all that closing the bank takes."""
    start, used = perf_counter(), process_time()
    with peak() as found, MaskBank.create(path, mask.spec) as bank:
        bank.put("t", mask)
    return perf_counter() - start, process_time() - used, found.bytes


def timed_get(path: Path, mask: Mask) -> tuple[float, float, float]:
    """(seconds, processor seconds, peak bytes) of reading and decoding it."""
    with MaskBank.open(path, limit=1 << 40) as bank:
        start, used = perf_counter(), process_time()
        with peak() as found:
            words = bank["t"].words
        spent = perf_counter() - start, process_time() - used, found.bytes - words.nbytes
        assert np.array_equal(words, mask.words)
    return spent


@pytest.mark.parametrize("kind", MASKS)
def test_large_masks(kind, full, tmp_path, monkeypatch):
    bits = 10**9 if full else 2 * 10**7
    mask = MASKS[kind](spec_of(bits))
    put, get = timed_put(tmp_path / "a.bank", mask), timed_get(tmp_path / "a.bank", mask)
    for module in ("putting.new_mask", "coding"):
        monkeypatch.setattr(f"maskstore.bank.{module}.BLOCKED_BITS", 1 << 40)
    whole_put, whole_get = timed_put(tmp_path / "b.bank", mask), timed_get(tmp_path / "b.bank", mask)
    print(
        f"\n{kind}, {mask.spec.bits} bits, {8 * (tmp_path / 'a.bank').stat().st_size / mask.spec.bits:.4f} bits a bit"
    )
    for what, ours, whole in (("put", put, whole_put), ("get", get, whole_get)):
        print(
            f"  {what}: {bits / ours[0] / 1e6:.0f} Mbit/s, {bits / ours[1] / 1e6:.0f} a processor second, "
            f"peak {ours[2] / MIB:.0f} MiB; in one piece {bits / whole[0] / 1e6:.0f} Mbit/s, "
            f"{bits / whole[1] / 1e6:.0f} a processor second, peak {whole[2] / MIB:.0f} MiB"
        )
    assert max(put[2], get[2]) < 300 * MIB
    assert (tmp_path / "a.bank").stat().st_size < 1.002 * (tmp_path / "b.bank").stat().st_size


EXPORTS = {
    "safetensors": (write_safetensors, lambda source, path: store(read_masks(source), path)),
    "npz": (write_npz, lambda source, path: store(read_masks(source), path)),
    "shard": (write_shard, lambda source, path: merge([source], path)),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_large_exports(kind, full, tmp_path):
    spec = spec_of(10**9 if full else 2 * 10**7)
    write, read = EXPORTS[kind]
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put("t", independent(spec, 0.5))
    out, used = tmp_path / f"a.{kind}", process_time()
    with MaskBank.open(tmp_path / "a.bank") as bank, peak() as exporting:
        write(bank, out)
    exported = process_time()
    with peak() as importing:
        read(out, tmp_path / "b.bank")
    print(
        f"\n{kind}, {spec.bits} bits: export peak {exporting.bytes / MIB:.0f} MiB, {exported - used:.1f} processor "
        f"seconds; import peak {importing.bytes / MIB:.0f} MiB, {process_time() - exported:.1f}"
    )
    assert max(exporting.bytes, importing.bytes) < 300 * MIB
    with MaskBank.open(tmp_path / "a.bank") as bank, MaskBank.open(tmp_path / "b.bank") as again:
        assert np.array_equal(bank.layer("t", "l7", rows=slice(9)), again.layer("t", "l7", rows=slice(9)))


def test_large_files_are_little_more_than_their_payload(full, tmp_path):
    sizes = [10**4, 10**5, 10**6, 10**7, *([10**8, 10**9] if full else [])]
    for bits in sizes:
        for kind, make in MASKS.items():
            mask = make(spec_of(bits))
            path = tmp_path / f"{bits}.bank"
            timed_put(path, mask)
            size = path.stat().st_size
            with MaskBank.open(path, limit=1 << 40) as bank:
                payload = account(bank).payload_bytes
            path.unlink()
            over = 100 * (size - 6144 - payload) / payload
            print(f"\n{bits} bits, {kind}: {size} bytes, payload {payload}; beyond 6 KiB {over:.2f} % more", end="")
            assert size <= 1.01 * payload + 6144


@pytest.mark.parametrize("codec", ["raw", "ans", "auto"])
def test_large_layer_gives_its_rows(codec, tmp_path):
    mask = random_mask(PROJECTION, 0.5 if codec == "raw" else 0.1, 0)
    with MaskBank.create(tmp_path / "a.bank", PROJECTION) as bank:
        bank.put("t", mask, codec=codec)
    with MaskBank.open(tmp_path / "a.bank") as bank:
        times: dict[str, list[float]] = {"rows": [], "layer": []}
        for first in range(0, 6000, 500):
            for what, rows in (("rows", slice(first, first + 1000)), ("layer", None)):
                start = perf_counter()
                found = bank.layer("t", "down", rows=rows)
                times[what].append(perf_counter() - start)
                assert found.shape[1] == 7168
    rows, layer = min(times["rows"]), min(times["layer"])
    print(f"\n1000 rows of {PROJECTION['down'].shape}, {codec}: {1e3 * rows:.1f} ms; the layer {1e3 * layer:.1f} ms")
    assert rows < layer
