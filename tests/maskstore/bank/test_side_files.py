"""What lies beside a bank under the names that SQLite would look for, put there by a stranger."""

import os
import shutil
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pytest

from maskstore import MaskBank
from maskstore.errors import CorruptError, MaskStoreError
from tests.helpers.commands import maskstore
from tests.helpers.forged_banks import Forge

_MAGIC = bytes.fromhex("d9d505f920a163d7")


def _journal_of(victim: bytes, pages: int) -> bytes:
    """A rollback journal without pages that says it is part of a transaction of which `victim` is the super-journal."""
    head = (_MAGIC + struct.pack(">5I", 0, 0, pages, 512, 512)).ljust(512, b"\0")
    place = struct.pack(">I", (1 << 30) // 512 + 1)
    return head + place + victim + struct.pack(">2I", len(victim), sum(victim)) + _MAGIC


@pytest.fixture
def victim(tmp_path):
    """A file that the journal beside `a.bank` names: whoever plays the journal back deletes it."""
    path = Forge(tmp_path / "a.bank").row().done()
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / "a.bank-journal").write_bytes(_journal_of(os.fsencode(precious), path.stat().st_size // 512))
    return precious


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_journal_beside_a_bank_deletes_nothing(tmp_path, victim, mode):
    with pytest.raises(CorruptError, match="expected no rollback journal beside a bank"):
        MaskBank.open(tmp_path / "a.bank", mode)
    assert victim.read_text() == "precious"

    (tmp_path / "a.bank-journal").unlink()
    with MaskBank.open(tmp_path / "a.bank", mode) as bank:
        assert bank.verify() == 1


def test_the_test_above_can_fail(tmp_path, victim):
    """Whoever opens the bank with plain SQLite loses the file."""
    with closing(sqlite3.connect(tmp_path / "a.bank")) as link:
        link.execute("PRAGMA user_version").fetchone()
    assert not victim.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_pipe_or_a_link_as_a_journal_is_refused_at_once(tmp_path, mode):
    path = Forge(tmp_path / "a.bank").row().done()
    journal = tmp_path / "a.bank-journal"
    os.mkfifo(journal)
    with pytest.raises(CorruptError, match="journal"):
        MaskBank.open(path, mode)
    journal.unlink()
    journal.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CorruptError, match="journal"):
        MaskBank.open(path, mode)


@pytest.mark.parametrize("ending", ["-wal", "-shm", ".lock"])
@pytest.mark.parametrize("mode", ["r", "a"])
def test_links_beside_a_bank_are_not_written_through(tmp_path, ending, mode):
    path = Forge(tmp_path / "a.bank").row().done()
    victim = tmp_path / "precious.txt"
    victim.write_text("precious" * 100)
    (tmp_path / f"a.bank{ending}").symlink_to(victim)
    try:
        with MaskBank.open(path, mode, timeout=1) as bank:
            bank.verify()
            if mode == "a":
                bank.put("new", {"a": [1, 0] * 4})
    except MaskStoreError:
        pass
    assert victim.read_text() == "precious" * 100


@pytest.mark.parametrize("command", ["import", "merge", "put"])
def test_a_new_bank_is_not_mixed_with_the_log_of_one_that_was_there(tmp_path, capsys, command):
    """A writer was killed and its bank deleted; the log is still there, and SQLite would play it into the new file."""
    with MaskBank.open(Forge(tmp_path / "old.bank").row(name="new").done(), "a") as bank:
        bank.put("old", bank["new"])
        shutil.copy(tmp_path / "old.bank-wal", tmp_path / "a.bank-wal")
    np.savez(tmp_path / "m.npz", a=np.ones(8))
    arguments = {
        "import": ["m.npz", "a.bank", "--name", "new"],
        "merge": ["old.bank", "a.bank"],
        "put": ["a.bank", "new", "m.npz", "--create"],
    }[command]
    paths = [str(tmp_path / argument) if "." in argument else argument for argument in arguments]
    assert maskstore(command, *paths) == 1
    assert "found the log a.bank-wal of a killed writer" in capsys.readouterr().err
    assert not (tmp_path / "a.bank").exists()

    (tmp_path / "a.bank-wal").unlink()
    assert maskstore(command, *paths) == 0
    with MaskBank.open(tmp_path / "a.bank") as bank:
        assert bank.verify() == len(bank) == (2 if command == "merge" else 1)
