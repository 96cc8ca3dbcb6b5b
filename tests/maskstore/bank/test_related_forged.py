"""Forged banks of related masks: changed pointers, counts and heads are named errors, and reading them stays cheap."""

import sqlite3
import tracemalloc

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskSpec
from maskstore.bank.accounting import account
from maskstore.bank.head import with_checksum
from maskstore.errors import CorruptError, MaskStoreError
from tests.helpers.related_masks import PARENT, like, make_bank, masks_of


@pytest.fixture
def bank(tmp_path):
    return make_bank(tmp_path / "a.bank")


def change(path, statement, *arguments):
    link = sqlite3.connect(path)
    link.execute(statement, arguments)
    link.commit()
    link.close()


def pointers(path, name):
    link = sqlite3.connect(path)
    (found,) = link.execute("SELECT bases FROM masks WHERE name=?", (name,)).fetchone()
    link.close()
    return found


@pytest.mark.parametrize("target", [4, 5, 77, 2])
def test_rows_that_point_to_themselves_to_each_other_or_nowhere_are_refused(bank, target):
    """Row 4 is `one`, 5 is `mean`; 2 is another mask than the one it was coded against."""
    digest = pointers(bank, "one")[1:]
    change(bank, "UPDATE masks SET bases=? WHERE name='one'", bytes([2 * target]) + digest)
    with MaskBank.open(bank) as opened:
        for read in (lambda: opened["one"], lambda: opened.layer("one", "fc1"), opened.verify, lambda: account(opened)):
            with pytest.raises(CorruptError):
                read()
        assert opened["base"] == like(PARENT, 0.02, 0)


def test_more_pointers_than_a_prior_takes_are_refused(bank):
    entry = pointers(bank, "one")
    for many in (b"", entry * 2, entry * 16, entry * 100_000, entry[:-1]):
        change(bank, "UPDATE masks SET bases=? WHERE name='one'", many)
        with MaskBank.open(bank) as opened, pytest.raises(CorruptError):
            opened["one"]


@pytest.mark.parametrize("used", [0, 1, 3, -1])
def test_verify_counts_who_is_needed(bank, used):
    change(bank, "UPDATE masks SET used=? WHERE name='base'", used)
    with MaskBank.open(bank) as opened, pytest.raises(CorruptError):
        opened.verify()


def test_only_our_errors_come_out_of_changed_pointers_and_counts(bank):
    image, expected = bank.read_bytes(), masks_of(bank)
    rng = np.random.default_rng(4)
    for _ in range(150):
        column = ("bases", "about", "start", "data", "used", "extras")[rng.integers(6)]
        bank.write_bytes(image)
        value = rng.bytes(int(rng.integers(0, 40))) if column in ("bases", "about") else int(rng.integers(-9, 1 << 40))
        name = ("base", "one", "mean")[rng.integers(3)]
        change(bank, f"UPDATE masks SET {column}=? WHERE name=?", value, name)
        with MaskBank.open(bank) as opened:
            try:
                assert dict(opened.masks()) == expected
                opened.infos()
                opened.verify()
            except MaskStoreError:
                continue
            assert value == 0 or not value


def test_rows_that_share_bytes_are_read_a_few_at_a_time(tmp_path):
    """Many rows of a forged file may stand for the same large bytes: reading them must not add up."""
    spec = MaskSpec({"a": (1 << 25,)})
    mask = Mask(spec, np.random.default_rng(0).integers(0, 1 << 63, spec.words, dtype=np.uint64))
    with MaskBank.create(tmp_path / "a.bank", spec) as opened:
        opened.put("0", mask, codec="raw")
    columns = "about,checksum,start,extras,data,used,bases"
    for n in range(2, 60):
        change(opened.path, f"INSERT INTO masks SELECT ?,?,{columns} FROM masks WHERE id=1", n, str(n))
    with MaskBank.open(opened.path) as opened:
        with pytest.raises(CorruptError, match="share"):
            opened.verify()
        with opened._file.snapshot() as link:
            link.execute("SELECT 1")
            tracemalloc.start()
            with pytest.raises(CorruptError, match="checksum"):
                opened._rows.some(link, opened._rows.listing(link))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 4 * mask.nbytes


def test_a_head_of_long_templates_is_refused_before_rows_multiply_it(bank):
    link = sqlite3.connect(bank)
    head = dict(link.execute("SELECT key,value FROM head"))
    link.close()
    del head["checksum"]
    for templates in ('["' + "x" * 5000 + '"]', str(["x"] * 65).replace("'", '"'), "{}", "[3]", "null", "["):
        head["templates"] = templates
        change(bank, "UPDATE head SET value=? WHERE key='templates'", templates)
        change(bank, "UPDATE head SET value=? WHERE key='checksum'", with_checksum(head)["checksum"])
        with MaskBank.open(bank) as opened, pytest.raises(CorruptError):
            opened.infos()


@pytest.mark.parametrize("row", ["INSERT INTO head VALUES(NULL,NULL)", "INSERT INTO head SELECT * FROM head LIMIT 1"])
def test_a_head_with_a_row_too_many_is_refused(bank, row):
    change(bank, row)
    with pytest.raises(CorruptError, match="head"):
        MaskBank.open(bank)
