"""Values that no writer puts into a bank, in every column: only named errors come out, and no wrong mask."""

import sqlite3

import pytest

from maskstore import MaskBank, account, compact
from maskstore.errors import CorruptError, MaskStoreError
from maskstore.interop.diff import diff_banks
from maskstore.interop.merging import merge
from tests.helpers.flipped_bits import content, readings, small_bank, write_alone
from tests.helpers.forged_banks import Forge

DEEP = "[" * 100_000
NASTY = (
    *(None, 0, 1, -1, 2**31, 2**62, 2**63 - 1, -(2**63), 1.5, float("inf")),
    *("", "1", "t3", "a\0b", "x" * 513, "\ufffd", DEEP, '{"a":' * 5000, "[]", "{}"),
    *(b"", b"\0", b"\xff" * 8, b"\0\x05[[[[[", bytes(600)),
)
LOOSE = {
    "head": "CREATE TABLE head(key TEXT,value TEXT)",
    "masks": "CREATE TABLE masks(id INTEGER PRIMARY KEY,name TEXT UNIQUE,about BLOB,checksum BLOB,start INT,extras INT,"
    "data INT,used INT,bases BLOB)",
    "chunks": "CREATE TABLE chunks(start INTEGER PRIMARY KEY,dead INT,data BLOB)",
}
COLUMNS = {
    "head": ("key", "value"),
    "masks": ("id", "name", "about", "checksum", "start", "extras", "data", "used", "bases"),
    "chunks": ("start", "dead", "data"),
}
PLACES = [(table, column) for table, columns in COLUMNS.items() for column in columns]


def set_value(path, table, column, value):
    """Put a value of any type into the second row of a table; whether the file then holds it.

    The tables are STRICT; the declaration is taken away for this one statement.
    """
    schema = "UPDATE sqlite_schema SET sql=? WHERE name=?"
    with sqlite3.connect(path) as link:
        link.execute("PRAGMA writable_schema=ON")
        link.execute(schema, (LOOSE[table], table))
    link.close()
    link = sqlite3.connect(path)
    try:
        row = f"rowid=(SELECT rowid FROM {table} WHERE rowid>0 ORDER BY rowid LIMIT 1 OFFSET 1)"
        link.execute(f"UPDATE {table} SET {column}=? WHERE {row}", (value,))
    except (sqlite3.Error, OverflowError):
        link.close()
        return False
    link.execute("PRAGMA writable_schema=ON")
    link.execute(schema, (LOOSE[table] + "STRICT", table))
    link.commit()
    link.close()
    return True


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """(image, names, what is read from it)."""
    path = small_bank(tmp_path_factory.mktemp("banks") / "a.bank", related=True)
    with MaskBank.open(path) as bank:
        return path.read_bytes(), list(bank), content(path)


@pytest.mark.parametrize(("table", "column"), PLACES)
def test_readings_are_right_or_named_errors(original, tmp_path, table, column):
    image, names, expected = original
    path = tmp_path / "nasty.bank"
    for value in NASTY:
        write_alone(path, image)
        if not set_value(path, table, column, value):
            continue
        try:
            bank = MaskBank.open(path)
        except MaskStoreError:
            continue
        with bank:
            for (what, read), right in zip(readings(bank, names), expected, strict=True):
                try:
                    found = read()
                    # a name or an id that rows and index agree on is that of another mask, until the mask is read
                    if column not in ("id", "name") or what.startswith(("get", "layer", "extras", "info")):
                        assert found == right, (what, value)
                except MaskStoreError:
                    continue
            for read in (bank.verify, lambda bank=bank: account(bank)):
                try:
                    read()
                except MaskStoreError:
                    continue


@pytest.mark.parametrize(("table", "column"), PLACES)
def test_changes_are_made_or_named_errors(original, tmp_path, table, column):
    image, _, _ = original
    path, sound = tmp_path / "nasty.bank", tmp_path / "sound.bank"
    write_alone(sound, image)
    with MaskBank.open(sound) as bank:
        mask = bank["t2"]

    def change(work):
        with MaskBank.open(path, "a") as bank:
            work(bank)

    def compare():
        with MaskBank.open(path) as one, MaskBank.open(sound) as other:
            diff_banks(one, other)

    changes = (
        lambda: change(lambda bank: bank.put("new", mask, meta={"another": [1]})),
        lambda: change(lambda bank: bank.put("t3", mask, overwrite=True)),
        lambda: change(lambda bank: bank.delete("t2")),
        lambda: compact(path, level="fast"),
        lambda: merge([str(path)], tmp_path / "merged.bank"),
        compare,
    )
    for number, value in enumerate(NASTY):
        for work in changes[number % 3 :: 3]:
            write_alone(path, image)
            (tmp_path / "merged.bank").unlink(missing_ok=True)
            if not set_value(path, table, column, value):
                continue
            try:
                work()
            except MaskStoreError:
                continue


@pytest.mark.parametrize("name", ["", "x" * 513, "a\0b", "\ufffd"])
def test_names_that_cannot_be_asked_for_are_refused_by_all_who_list_them(tmp_path, name):
    """The last is what a name of damaged bytes is read as."""
    path = Forge(tmp_path / "a.bank").row(1, "t").row(2, name or "empty").done()
    link = sqlite3.connect(path)
    link.execute("UPDATE masks SET name=CAST(? AS TEXT) WHERE id=2", (b"\xff" if name == "\ufffd" else name.encode(),))
    link.commit()
    link.close()
    with MaskBank.open(path) as bank:
        for read in (lambda: list(bank), bank.verify, bank.matrix, bank.infos, lambda: list(bank.masks())):
            with pytest.raises(CorruptError):
                read()
        assert bank["t"].ones == 4


@pytest.mark.parametrize("id", [-(2**63), -1, 0])
def test_a_named_row_with_the_id_of_a_snapshot_is_refused(tmp_path, id):
    path = Forge(tmp_path / "a.bank").row(id, "t").done()
    with MaskBank.open(path) as bank:
        for read in (lambda: list(bank), bank.verify, bank.matrix, bank.infos, lambda: bank["t"], lambda: "t" in bank):
            with pytest.raises(CorruptError):
                read()


@pytest.mark.parametrize("id", [1, 2**62, 2**63 - 1])
def test_the_largest_ids_are_read(tmp_path, id):
    path = Forge(tmp_path / "a.bank").row(id, "t").done()
    with MaskBank.open(path) as bank:
        assert (list(bank), len(bank), bank.verify()) == (["t"], 1, 1)
        assert bank.matrix().names == ("t",)
        assert bank.layer("t", "a").tolist() == [True, False] * 4


@pytest.mark.parametrize("value", [2, 5, 128, 255])
def test_bools_that_are_neither_0_nor_1_are_refused(tmp_path, value):
    header = b'{"x":["b1",[2]]}'
    extras = len(header).to_bytes(4, "little") + header + bytes([1, value])
    with MaskBank.open(Forge(tmp_path / "a.bank").row(extras=extras).done()) as bank:
        with pytest.raises(CorruptError, match="extra arrays"):
            bank.extras("t")
        with pytest.raises(CorruptError, match="extra arrays"):
            bank.verify()


@pytest.mark.parametrize("depth", [50, 400, 900, 20_000])
@pytest.mark.parametrize("column", ["meta", "codec", "prior"])
def test_json_of_any_depth_is_read_or_refused(tmp_path, column, depth):
    text = '{"id":' * depth + '"raw"' + "}" * depth
    path = Forge(tmp_path / "a.bank").row(**{column: text}).done()
    with MaskBank.open(path) as bank:
        for read in (bank.infos, bank.verify, lambda: bank["t"], lambda: repr(bank.info("t")), bank.matrix):
            try:
                read()
            except MaskStoreError:
                continue
