"""Only regular files of bounded size are read; whatever else has a name is refused at once."""

import os
import socket
from pathlib import Path

import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.errors import IrregularFileError, MaskStoreError
from maskstore.files import open_regular, read_regular


@pytest.fixture(params=["folder", "pipe", "socket", "device", "zero", "link to a pipe"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "x"
    match request.param:
        case "folder":
            path.mkdir()
            return path, "a folder"
        case "pipe":
            os.mkfifo(path)
            return path, "a named pipe"
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(os.path.relpath(path))
            return path, "a socket"
        case "device":
            return Path("/dev/null"), "a device"
        case "zero":
            return Path("/dev/zero"), "a device"
    os.mkfifo(tmp_path / "pipe")
    path.symlink_to(tmp_path / "pipe")
    return path, "a named pipe"


def test_what_is_no_regular_file_is_named_and_not_read(irregular: tuple[Path, str]) -> None:
    path, kind = irregular
    for read in (open_regular, read_regular):
        with pytest.raises(IrregularFileError, match=f"^{path}: expected a regular file, found {kind}$"):
            read(path)


def test_a_name_that_becomes_a_pipe_before_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "x", tmp_path / "before"
    before.write_bytes(b"1")
    os.mkfifo(path)
    seen = os.stat(before)
    monkeypatch.setattr("maskstore.files.regular.os.stat", lambda _: seen)
    with pytest.raises(IrregularFileError, match="a named pipe"):
        open_regular(path)
    monkeypatch.undo()


def test_regular_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(path)
    assert read_regular(path, limit=5) == read_regular(str(tmp_path / "link"), limit=5) == b"12345"
    with pytest.raises(IrregularFileError, match="expected a regular file of at most 4 bytes, found 5"):
        read_regular(path, limit=4)


def test_a_huge_sparse_file_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(IrregularFileError, match="found 1,099,511,627,776"):
        read_regular(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_file_that_shows_no_size_is_read_and_bounded() -> None:
    assert b"Name:" in read_regular("/proc/self/status")
    with pytest.raises(IrregularFileError, match="a regular file of at most 10 bytes"):
        read_regular("/proc/self/status", limit=10)


def test_an_sqlite_file_is_not_opened_since_closing_it_would_drop_its_locks(tmp_path: Path) -> None:
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (3,)})) as bank:
        bank.put("t", {"fc": [1, 0, 1]})
        os.symlink("a.bank", tmp_path / "link")
        for name in ("a.bank", "link"):
            for read in (open_regular, read_regular):
                with pytest.raises(IrregularFileError, match="found a bank or another SQLite file"):
                    read(tmp_path / name)


def test_a_missing_file_stays_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")
    assert issubclass(IrregularFileError, (MaskStoreError, OSError))
