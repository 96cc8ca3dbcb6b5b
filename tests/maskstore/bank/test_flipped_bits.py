"""One flipped bit anywhere in a bank: what is read is right or an error, and a change takes no other mask along.

Every so many bits are tried here; `tests/slow/test_flipped_bits.py` tries more, or all.
"""

import sqlite3

import pytest

from maskstore import MaskBank, Reference, compact
from maskstore.errors import CorruptError, MaskStoreError
from tests.helpers.flipped_bits import CHANGES, content, flipped, lost_by, small_bank, write_alone, wrong_readings


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "related"])
def original(request, tmp_path_factory):
    """(path, image, names, what is read from it, masks by name) of a sound bank."""
    path = small_bank(tmp_path_factory.mktemp("banks") / "a.bank", related=request.param)
    with MaskBank.open(path) as bank:
        bank.verify()
        return path, path.read_bytes(), list(bank), content(path), dict(bank.masks())


@pytest.mark.parametrize("offset", range(2))
def test_readings_are_right_or_errors(original, tmp_path, offset):
    _, image, names, expected, _ = original
    path = tmp_path / "flipped.bank"
    wrong = {}
    for bit in range(offset * 101, 8 * len(image), 997):
        write_alone(path, flipped(image, bit))
        if found := wrong_readings(path, names, expected):
            wrong[bit] = found
    assert wrong == {}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_takes_no_other_mask_along(original, tmp_path, change):
    _, image, names, _, masks = original
    path = tmp_path / "flipped.bank"
    for bit in range(sum(map(ord, change)), 8 * len(image), 3989):
        write_alone(path, flipped(image, bit))
        assert lost_by(change, path, names, masks) == set(), bit


def sql(path, *statements):
    """Change a bank behind its back."""
    link = sqlite3.connect(path)
    for statement in statements:
        link.execute(statement)
    link.commit()
    link.close()


def test_a_name_changed_in_the_rows_or_in_the_index_is_no_other_mask(original, tmp_path):
    """Both ways round: the row says t9 where the index says t2, and the index where the row does."""
    _, image, names, _, _ = original
    path = tmp_path / "named.bank"
    found = 0
    for at in [at for at in range(len(image) - 2) if image[at : at + 2] == b"t2"]:
        write_alone(path, image[:at] + b"t9" + image[at + 2 :])
        with MaskBank.open(path) as bank:
            for read in (bank.__getitem__, bank.info, bank.record, bank.extras, lambda n: bank.layer(n, "fc1")):
                with pytest.raises(CorruptError):
                    read("t2")
                with pytest.raises(MaskStoreError):
                    read("t9")
            with pytest.raises(CorruptError):
                "t2" in bank  # noqa: B015
            with pytest.raises(CorruptError):
                list(bank)
            assert len(bank) == len(names)
        found += 1
    assert found == 2


def test_a_layer_is_that_of_the_mask_that_was_asked_for(original, tmp_path):
    """A row led to the bytes of another: there each layer has the checksum of its bits, and only the row knows."""
    _, image, _, _, masks = original
    path = tmp_path / "moved.bank"
    write_alone(path, image)
    start = "(SELECT start FROM masks WHERE name='t4')"
    sql(path, f"UPDATE masks SET start={start},data=(SELECT data FROM masks WHERE name='t4') WHERE name='t2'")
    with MaskBank.open(path) as bank:
        with pytest.raises(CorruptError, match="mask 't2'"):
            bank.layer("t2", "fc1")
        assert bank.layer("t4", "fc1").tolist() == masks["t4"].layer("fc1").tolist()


@pytest.mark.parametrize("dead", ["100000", "length(data)-1", "NULL", "-5", "x'00'", "'many'"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_chunk_says_of_its_unused_bytes_is_not_believed(original, tmp_path, dead, change):
    _, image, names, _, masks = original
    path = tmp_path / "dead.bank"
    write_alone(path, image)
    loose = "CREATE TABLE chunks(start INTEGER PRIMARY KEY,dead INT,data BLOB)"
    strict = loose + "STRICT"
    sql(
        path,
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_schema SET sql='{loose}' WHERE name='chunks'",
    )
    sql(
        path,
        f"UPDATE chunks SET dead={dead}",
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_schema SET sql='{strict}' WHERE name='chunks'",
    )
    assert lost_by(change, path, names, masks) == set()


@pytest.mark.parametrize("value", ["0", "1", "7"])
@pytest.mark.parametrize("change", CHANGES)
def test_how_many_need_a_mask_is_not_believed(tmp_path, value, change):
    path = small_bank(tmp_path / "a.bank", related=True)
    with MaskBank.open(path) as bank:
        names, masks = list(bank), dict(bank.masks())
    for name in ("t2", "t3", "t4"):
        sql(path, f"UPDATE masks SET used={value} WHERE name='{name}'")
    assert lost_by(change, path, names, masks) == set()


@pytest.mark.parametrize("column", ["start", "extras", "data"])
def test_a_row_that_claims_the_bytes_of_others_takes_none_with_it(original, tmp_path, column):
    """The natural repair of a damaged mask is its deletion."""
    _, image, names, _, masks = original
    path = tmp_path / "claims.bank"
    for value in (0, 1, 30, 200):
        write_alone(path, image)
        sql(path, f"UPDATE masks SET {column}={value} WHERE name='t4'")
        for change in CHANGES:
            assert lost_by(change, path, names, masks) == set()


def test_a_chunk_that_is_lost_is_not_written_over(original, tmp_path):
    """Its masks may be saved by who finds the page; were its places given away, two masks would claim them."""
    _, image, _, _, _ = original
    path = tmp_path / "lost.bank"
    write_alone(path, image)
    sql(path, "DELETE FROM chunks WHERE start=(SELECT max(start) FROM chunks)")
    with MaskBank.open(path, "a") as bank, pytest.raises(CorruptError, match="expected chunks up to place"):
        bank.put("new", next(iter(original[4].values())))


def test_a_damaged_head_is_not_given_a_new_checksum(original, tmp_path):
    """A template that changed while the bank was open: the next new one would have made the damage valid."""
    _, image, _, _, _ = original
    path = tmp_path / "head.bank"
    write_alone(path, image)
    with MaskBank.open(path, "a") as bank:
        sql(path, "UPDATE head SET value=replace(value,'id','ie') WHERE key='templates'")
        with pytest.raises(CorruptError, match="head"):
            bank.put("new", next(iter(original[4].values())), meta={"another": [1, 2]})


def test_a_free_page_that_is_in_use_is_seen_before_it_is_given_away(tmp_path):
    """The list of free pages leads to a page that holds masks: the next mask would be written over them."""
    path = small_bank(tmp_path / "a.bank", related=False)
    image = bytearray(path.read_bytes())
    trunk = int.from_bytes(image[32:36], "big")
    assert int.from_bytes(image[36:40], "big") > 1
    at = (trunk - 1) * 512 + 8
    image[at : at + 4] = (3).to_bytes(4, "big")
    write_alone(path, bytes(image))
    with MaskBank.open(path) as bank:
        names, masks = list(bank), dict(bank.masks())
    for change in CHANGES:
        assert lost_by(change, path, names, masks) == set()
    with MaskBank.open(path, "a") as bank, pytest.raises(CorruptError):
        bank.put("new", masks["t2"])
    with pytest.raises(CorruptError):
        compact(path)


def test_what_others_changed_is_looked_at_again(tmp_path):
    path = small_bank(tmp_path / "a.bank", related=True)
    with MaskBank.open(path, "a") as bank:
        mask = bank["t2"]
        bank.put("new", mask)
        sql(path, "UPDATE masks SET used=0 WHERE name='t2'")
        with pytest.raises(CorruptError):
            bank.delete("t2")
        sql(path, "UPDATE masks SET used=1 WHERE name='t2'")
        bank.delete("new")
        assert "new" not in bank


@pytest.mark.parametrize("repair", ["delete", "replace"])
def test_a_mask_whose_bytes_are_damaged_can_be_taken_out(original, tmp_path, repair):
    """All others stay, and the bank is sound again."""
    path, image, names, _, masks = original
    with MaskBank.open(path) as bank:
        data = bank.record("t4").data
    at = image.index(data)
    broken = tmp_path / "broken.bank"
    write_alone(broken, flipped(image, 8 * (at + len(data) // 2)))
    with MaskBank.open(broken, "a") as bank:
        with pytest.raises(CorruptError):
            bank.verify()
        if repair == "delete":
            bank.delete("t4")
        else:
            bank.put("t4", masks["t4"], overwrite=True)
    with MaskBank.open(broken) as bank:
        assert bank.verify() == len(names) - (repair == "delete")
        assert {name: bank[name] for name in bank if name != "t4"} == {n: m for n, m in masks.items() if n != "t4"}


def test_a_change_that_fails_leaves_no_trace_in_a_transaction_that_goes_on(tmp_path):
    """The mask it needs was found and counted before the failure."""
    path = small_bank(tmp_path / "a.bank", related=True)
    with MaskBank.open(path, "a") as bank:
        names, mask = list(bank), bank["t3"]
        with bank.transaction():
            bank.put("first", mask)
            sql_in(bank, "DELETE FROM chunks WHERE start=(SELECT max(start) FROM chunks)")
            before = dump(bank)
            with pytest.raises(CorruptError, match="expected chunks up to place"):
                bank.put("t3", mask, prior=Reference("t2"), overwrite=True)
            assert dump(bank) == before
            bank.delete("t5")
        assert list(bank) == [name for name in [*names, "first"] if name != "t5"]


def sql_in(bank, statement):
    """Change a bank within its own transaction."""
    with bank._file.reading() as link:
        link.execute(statement)


def dump(bank):
    """All rows and chunks."""
    with bank._file.reading() as link:
        return [link.execute(f"SELECT * FROM {table}").fetchall() for table in ("head", "masks", "chunks")]
