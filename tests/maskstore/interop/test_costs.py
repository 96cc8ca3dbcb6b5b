"""Small files that claim to be large: refused before the memory is allocated, and read where `limit` allows it."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maskstore.errors import CorruptError, ForeignFileError, LimitError, MaskStoreError
from maskstore.files import read_npz, write_npz
from maskstore.files.claims import FREE_BYTES, TABLE_BYTES
from maskstore.interop import ReadOptions, read_masks
from maskstore.interop.numcodecs import MaskstoreCodec
from tests.helpers.commands import maskstore

torch = pytest.importorskip("torch")
resource = pytest.importorskip("resource")


@pytest.fixture
def little_memory():
    """A process that may take 1 GiB more than it has: what allocates what a file claims fails, and is not named."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _torch_file(path, pickled):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
    return path


def _call(name, argument):
    module, _, attribute = name.rpartition(".")
    return b"\x80\x02}U\x01ac" + f"{module}\n{attribute}\n".encode() + argument + b"\x85Rs."


def _long_text():
    return b"\x80\x02X" + struct.pack("<I", TABLE_BYTES) + b"a" * TABLE_BYTES + b"]."


BIG = b"\x8a\x05" + (1 << 32).to_bytes(5, "little")


RAW = {name: name for name in ("builtins.bytearray", "torch.Tensor", "torch.FloatTensor", "torch.cuda.HalfTensor")} | {
    "__builtin__.bytearray": "builtins.bytearray",  # as Python 2 called it: torch knows the old names
    "torch.storage.UntypedStorage": "torch.storage.UntypedStorage",
    "torch.storage.TypedStorage": "torch.storage.TypedStorage",
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize("old_form", [False, True])
def test_raw_memory_in_a_torch_file(tmp_path, name, remembered, old_form, little_memory):
    pickled, said = _call(name, BIG), RAW[name]
    if remembered:  # put away, dropped, and taken out again
        loaded = "c{}\n{}\n".format(*name.rsplit(".", 1)).encode()
        pickled = b"\x80\x02" + loaded + b"q\x07\x85" + b"}U\x01ah\x07" + BIG + b"\x85Rs\x86."
    if old_form:
        path = tmp_path / "a.pt"
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
        path.write_bytes(
            magic + pickle.dumps(1001, protocol=2) + pickle.dumps({}, protocol=2) + pickled + b"\x80\x02]."
        )
    else:
        path = _torch_file(tmp_path / "a.pt", pickled)
    with pytest.raises(ForeignFileError, match=f"found {said}, which could take any amount of memory"):
        read_masks(path)


def test_long_tables_in_every_container(tmp_path, little_memory):
    count = TABLE_BYTES // 240
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for i in range(count):
            archive.writestr(f"{i:0200}.npy", b"")
    table = {f"{i:0200}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
    header = json.dumps(table).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    _torch_file(tmp_path / "a.pt", _long_text())
    (tmp_path / "b.pt").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + _long_text())
    for name in ("a.npz", "a.safetensors", "a.pt", "b.pt"):
        with pytest.raises(LimitError, match=f"{name}: expected a table of contents of at most 4,194,304 bytes"):
            read_masks(tmp_path / name)
    with pytest.raises(LimitError, match="table of contents"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(MaskStoreError) as caught:  # more is allowed, and the table is read to its end
        read_masks(tmp_path / "a.safetensors", ReadOptions(limit=1 << 40, layout="prune"))
    assert not isinstance(caught.value, LimitError)


def test_deflated_zeros(tmp_path, little_memory):
    write_npz(tmp_path / "a.npz", {"fc1": np.zeros(1 << 20, dtype=bool)})
    assert read_masks(tmp_path / "a.npz").tasks[0].mask.spec.bits == 1 << 20
    header = {"descr": "|b1", "fortran_order": False, "shape": (FREE_BYTES + 64,)}
    with (
        zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("fc1.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(FREE_BYTES >> 20):
            member.write(bytes(1 << 20))
        member.write(bytes(64))
    for read in (read_npz, read_masks):
        with pytest.raises(LimitError, match=r"expected arrays of at most 268,435,456 bytes, found 268,.*`limit=\d+`"):
            read(tmp_path / "b.npz")
    with pytest.raises(LimitError, match="at most 1,000 bytes"):
        read_masks(tmp_path / "a.npz", ReadOptions(limit=1000))
    assert read_masks(tmp_path / "b.npz", ReadOptions(limit=FREE_BYTES + 1000)).spec.bits == FREE_BYTES + 64


def test_the_command_line_says_which_option_allows_more(tmp_path, capsys):
    write_npz(tmp_path / "a.npz", {"fc1": np.zeros((8, 8), dtype=bool)})
    arguments = ["import", str(tmp_path / "a.npz"), str(tmp_path / "a.bank")]
    assert maskstore(*arguments, "--limit", "10") == 1
    error = capsys.readouterr().err
    limit = error.rpartition("--limit ")[2].split()[0]
    assert maskstore(*arguments, "--limit", limit) == 0


def test_one_storage_under_many_names(tmp_path, little_memory):
    storage = torch.zeros(1 << 22, dtype=torch.uint8)
    torch.save({f"a{i}": storage[:] for i in range(200)}, tmp_path / "a.pt")
    with pytest.raises(LimitError, match="expected arrays of at most"):
        read_masks(tmp_path / "a.pt")


def test_one_dict_under_many_names(tmp_path, little_memory):
    inner = dict.fromkeys((f"l{i}" for i in range(400)), torch.zeros(1))
    torch.save(dict.fromkeys((f"t{i}" for i in range(400)), inner), tmp_path / "a.pt")
    with pytest.raises(LimitError, match="named again and again"):
        read_masks(tmp_path / "a.pt")


@pytest.mark.parametrize("members", ["deflated", "overlapping"])
def test_a_zip_that_torch_would_not_write(tmp_path, members):
    path = tmp_path / "a.pt"
    if members == "deflated":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", b"\x80\x02}.")
            archive.writestr("a/data/0", bytes(1 << 20))
    else:
        torch.save({"a": torch.zeros(1000)}, path)
        with zipfile.ZipFile(path) as archive:
            big = next(info for info in archive.infolist() if info.file_size >= 4000)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a/x", "")
            archive.filelist[-1].header_offset = big.header_offset
            archive.filelist[-1].file_size = archive.filelist[-1].compress_size = big.file_size * 10
    with pytest.raises(ForeignFileError, match="stored once and uncompressed"):
        read_masks(path)


def test_a_chunk_of_few_bytes(little_memory):
    good = bytearray(MaskstoreCodec().encode(np.zeros(64, dtype=bool)))
    good[6:14] = (1 << 33).to_bytes(8, "little")
    with pytest.raises(CorruptError, match="chunk: expected arrays of at most 268,435,456 bytes"):
        MaskstoreCodec().decode(bytes(good))
    limited = MaskstoreCodec(limit=100)
    with pytest.raises(LimitError, match="at most 100 bytes"):
        limited.encode(np.zeros(101, dtype=bool))
    chunk = MaskstoreCodec().encode(np.zeros(101, dtype=bool))
    with pytest.raises(CorruptError, match="`limit=101` allows it"):
        limited.decode(chunk)
    out = np.ones(101, dtype=bool)
    limited.decode(chunk, out=out)
    assert not out.any()
    assert MaskstoreCodec.from_config(limited.get_config()) == limited == eval(repr(limited))
    assert "limit" not in MaskstoreCodec().get_config()
