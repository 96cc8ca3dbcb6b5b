"""A new file appears whole under its name or not at all, and leaves nothing else."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, Reference
from maskstore.errors import BankExistsError, TaskNotFoundError
from maskstore.files import read_npz, replacing, write_json, write_npz

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions, links and pipes")


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@needs_posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("kind", ["json", "npz", "text"])
def test_a_replaced_file_keeps_its_permissions(tmp_path, mode, kind):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    _write(kind, path)
    assert _mode(path) == mode
    assert path.read_bytes() != b"old"


def _write(kind, path):
    if kind == "json":
        write_json(path, {"a": 1})
    elif kind == "npz":
        write_npz(path, {"a": np.ones(3)}, overwrite=True)
    else:
        with replacing(path, overwrite=True) as scratch:
            scratch.write_text("new")


@needs_posix
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    (tmp_path / "plain").touch()
    write_json(tmp_path / "new.json", {})
    assert _mode(tmp_path / "new.json") == _mode(tmp_path / "plain")


@needs_posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path, there):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "run.json", tmp_path / "run.json"
    if there:
        target.write_text("old")
        target.chmod(0o600)
    link.symlink_to(target)
    write_json(link, {"a": 1})
    assert link.is_symlink()
    assert target.read_text() == '{\n  "a": 1\n}\n'
    assert not there or _mode(target) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["far", "run.json"]


@needs_posix
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    path = tmp_path / "masks.npz"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(BankExistsError, match="expected a file to replace"):
        write_npz(path, {"a": np.ones(3)}, overwrite=True)
    assert path.is_fifo() or path.is_dir()
    assert os.listdir(tmp_path) == ["masks.npz"]


_KILLED = """
import os, sys
from pathlib import Path
from maskstore.files import replacing
with replacing(Path(sys.argv[1]), overwrite=True) as scratch:
    scratch.write_text("half")
    os._exit(9)
"""


@needs_posix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["masks.npz", "[a]*.json"])
def test_what_a_killed_process_left_goes_with_the_next_that_writes_the_file(tmp_path, name):
    path = tmp_path / name
    assert subprocess.run([sys.executable, "-c", _KILLED, path], check=False).returncode == 9
    assert len(os.listdir(tmp_path)) == 1
    write_npz(path, {"a": np.ones(3)})
    assert os.listdir(tmp_path) == [name]
    assert list(read_npz(path)) == ["a"]


def test_what_a_living_process_writes_stays(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path, overwrite=True) as first:
        first.write_text("first")
        with replacing(path, overwrite=True) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_no_second_name_is_left_beside_a_new_file(tmp_path):
    with replacing(tmp_path / "a", overwrite=False) as scratch:
        scratch.write_text("a")
    assert (tmp_path / "a").stat().st_nlink == 1
    with pytest.raises(BankExistsError), replacing(tmp_path / "a", overwrite=False):
        raise AssertionError


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal", ".lock"])
def test_a_bank_and_what_belongs_to_it_are_never_replaced(tmp_path, ending):
    masks = {"fc1": np.eye(4, dtype=bool)}
    with MaskBank.create(tmp_path / "tasks.bank", MaskSpec.of(masks)) as bank:
        bank.put("task-0", masks)
        there = (tmp_path / f"tasks.bank{ending}").exists()
        with pytest.raises(BankExistsError, match="expected a file that holds no bank"):
            write_npz(tmp_path / f"tasks.bank{ending}", {"a": np.ones(3)}, overwrite=True)
        assert (tmp_path / f"tasks.bank{ending}").exists() == there
        bank.put("task-1", masks)
    with MaskBank.open(tmp_path / "tasks.bank") as bank:
        assert bank.verify() == 2


def test_a_file_that_is_named_like_an_ending_is_written(tmp_path):
    write_npz(tmp_path / "-wal", {"a": np.ones(3)})
    assert (tmp_path / "-wal").exists()


def test_an_error_names_the_file_and_not_the_scratch_folder(tmp_path):
    path = tmp_path / "tasks.bank"

    def refused():
        with replacing(path, overwrite=False) as scratch:
            MaskBank.create(scratch, MaskSpec({"a": (2, 2)})).close()
            with MaskBank.open(scratch, "a") as bank:
                bank.put("t", {"a": [[1, 0], [0, 1]]}, prior=Reference("other"))

    with pytest.raises(TaskNotFoundError) as found:
        refused()
    assert str(found.value) == f"task 'other': expected one of 0 tasks in {path}"
    assert os.listdir(tmp_path) == []
