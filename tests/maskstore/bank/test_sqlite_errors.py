"""SQLite's errors: each says what failed, and only a damaged file is called damaged."""

import os
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import maskstore
from maskstore import MaskBank, MaskSpec, account
from maskstore.bank import byte_stream as stream
from maskstore.bank import sqlite
from maskstore.errors import (
    BankBusyError,
    BankFullError,
    BankIOError,
    BankReadOnlyError,
    CorruptError,
    MaskStoreError,
    MaskValueError,
    NotABankError,
)
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"a": (30, 40)})
CODES = {
    "SQLITE_CORRUPT": CorruptError,
    "SQLITE_CORRUPT_INDEX": CorruptError,
    "SQLITE_CONSTRAINT_UNIQUE": CorruptError,
    "SQLITE_TOOBIG": CorruptError,
    "SQLITE_NOTADB": NotABankError,
    "SQLITE_FULL": BankFullError,
    "SQLITE_BUSY": BankBusyError,
    "SQLITE_BUSY_SNAPSHOT": BankBusyError,
    "SQLITE_LOCKED": BankBusyError,
    "SQLITE_PROTOCOL": BankBusyError,
    "SQLITE_SCHEMA": BankBusyError,
    "SQLITE_READONLY": BankReadOnlyError,
    "SQLITE_READONLY_DIRECTORY": BankReadOnlyError,
    "SQLITE_READONLY_DBMOVED": BankIOError,
    "SQLITE_PERM": BankReadOnlyError,
    "SQLITE_IOERR": BankIOError,
    "SQLITE_IOERR_SHMMAP": BankIOError,
    "SQLITE_CANTOPEN": BankIOError,
    "SQLITE_NOLFS": BankIOError,
    "SQLITE_ERROR": None,
    "SQLITE_MISUSE": None,
    "SQLITE_RANGE": None,
    "SQLITE_MISMATCH": None,
}


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as opened:
        opened.put("one", {"a": np.arange(1200).reshape(30, 40) % 7 == 0})
        yield opened


@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_every_result_code_is_called_what_it_is(code, kind):
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, code), code
    found = sqlite.named(error, Path("a.bank"))
    assert type(found) is (kind or type(None))
    assert kind is None or str(found).startswith("a.bank: expected ")
    assert kind is None or str(found).endswith(f"found: what SQLite says ({code})")


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("SELEC name FROM masks", ()),
        ("SELECT nothing FROM masks", ()),
        ("SELECT name FROM maskz", ()),
        ("SELECT ? FROM masks", ()),
        ("SELECT ? FROM masks", (object(),)),
    ],
)
def test_a_wrong_statement_does_not_accuse_the_file(bank, statement, values):
    with pytest.raises(sqlite3.Error) as caught, bank._file.reading() as link:
        link.execute(statement, values)
    assert not isinstance(caught.value, MaskStoreError)
    assert bank.verify() == 1


def test_a_closed_connection_does_not_accuse_the_file(bank):
    reader = MaskBank.open(bank.path)
    with reader._file.reading() as link:
        link.close()
    with pytest.raises(sqlite3.ProgrammingError):
        list(reader)


def test_a_damaged_page_accuses_the_file(bank):
    bank.close()
    data = bytearray(bank.path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    for start in range(size, len(data), size):
        data[start] = 99  # a kind of page that there is not
    bank.path.write_bytes(data)
    with pytest.raises(CorruptError, match="SQLITE_CORRUPT"):
        MaskBank.open(bank.path)


@pytest.mark.parametrize("value", ["'x'", "7", "NULL"])
@pytest.mark.parametrize("size", [100, 1 << 17])
def test_chunks_of_other_types_are_damage(value, size):
    link = sqlite3.connect(":memory:", isolation_level=None)
    link.execute(sqlite.SCHEMA[2].removesuffix("STRICT"))  # what a damaged record looks like to SQLite
    stream.append(link, bytes(size))
    if value == "'x'":
        link.execute("UPDATE chunks SET data=CAST(hex(data) AS TEXT)")
    else:
        link.execute(f"UPDATE chunks SET data={value}")
    with pytest.raises(CorruptError, match="bank's bytes"):
        stream.read(link, 0, 90)


def test_counters_beyond_64_bits_are_damage(bank):
    with bank._file.changing() as link:
        link.execute("INSERT INTO chunks(start,dead,data) VALUES(90000,?,x'00')", ((1 << 63) - 1,))
        link.execute("INSERT INTO chunks(start,dead,data) VALUES(90001,?,x'00')", ((1 << 63) - 1,))
    bank.close()
    with MaskBank.open(bank.path) as forged, pytest.raises(CorruptError):
        account(forged)


def test_what_sqlite_could_not_hold_is_refused_as_a_value(bank, monkeypatch):
    monkeypatch.setattr("maskstore.bank.coding.MAX_BLOB_BYTES", 1000)
    with pytest.raises(MaskValueError, match="at most 1000 bytes"):
        bank.put("two", bank["one"], extras={"mean": np.zeros(1000)})
    assert list(bank) == ["one"]


def _torn_at_first(monkeypatch: pytest.MonkeyPatch, times: int, *, folding: bool) -> list[int]:
    """Opening the bank finds torn pages so many times; with `folding`, because somebody writes the file meanwhile."""
    tries, opened = [], sqlite._prepared

    def torn(link: sqlite3.Connection, path: Path) -> sqlite3.Connection:
        tries.append(1)
        if len(tries) > times:
            return opened(link, path)
        if folding:
            os.utime(path, ns=(len(tries), len(tries)))
        link.close()
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    monkeypatch.setattr(sqlite, "_prepared", torn)
    monkeypatch.setattr(sqlite, "_FOLDING", 0.001)
    return tries


def test_a_file_that_changes_while_it_is_opened_anew_is_opened_again(tmp_path, monkeypatch):
    path, mask = tmp_path / "a.bank", random_mask(SPEC, 0.5, 0)
    with MaskBank.create(path, SPEC) as bank:
        bank.put("t", mask)
        tries = _torn_at_first(monkeypatch, 3, folding=True)
        with MaskBank.open(path) as other:
            assert other["t"] == mask
        assert len(tries) == 4


def test_a_file_that_stays_torn_is_corrupt_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.bank"
    with MaskBank.create(path, SPEC):
        tries = _torn_at_first(monkeypatch, 99, folding=False)
        with pytest.raises(CorruptError, match="malformed"):
            MaskBank.open(path)
        assert len(tries) == 1
    tries = _torn_at_first(monkeypatch, 99, folding=True)
    with pytest.raises(CorruptError, match="malformed"):  # nobody here has it open: no reason to wait
        MaskBank.open(path)


def test_placeholders_have_no_numbers() -> None:
    """From Python 3.14 on `?1` is a name, which a tuple cannot fill; 3.12 warns of that."""
    sources = Path(maskstore.__file__).parent.rglob("*.py")
    assert not [path for path in sources if re.search(r"[=(,]\?\d", path.read_text("utf-8"))]
    assert re.search(r"[=(,]\?\d", "start<=?1")
