"""The bank against a dict, and everything a bank promises in ordinary use."""

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from maskstore import Mask, MaskBank, MaskSpec
from maskstore.bank import Maintenance, account
from maskstore.errors import (
    BankBusyError,
    BankClosedError,
    BankExistsError,
    BankNotFoundError,
    BankReadOnlyError,
    CorruptError,
    FormatVersionError,
    MaskStoreError,
    MaskValueError,
    NotABankError,
    SpecError,
    TaskExistsError,
    TaskNotFoundError,
)
from maskstore.priors import SeededScores, Uniform
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (13, 11), "fc2": (5, 13), "empty": (0, 4)})
GOLDEN_BANK = Path(__file__).parents[1] / "golden" / "version-1.bank"


class BankMachine(RuleBasedStateMachine):
    """Random operations on a bank and on a dict; the two must always agree."""

    names = Bundle("names")

    @initialize(tmp=st.just(None))
    def create(self, tmp):
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "test.bank"
        self.bank = MaskBank.create(self.path, SPEC, meta={"seed": 7})
        self.model: dict[str, tuple[Mask, dict, float]] = {}

    @rule(
        target=names,
        name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4),
        seed=st.integers(0, 1000),
        codec=st.sampled_from(["auto", "ans", "raw", "zstd"]),
        prior=st.sampled_from([Uniform(), SeededScores(1, 2)]),
        overwrite=st.booleans(),
    )
    def put(self, name, seed, codec, prior, overwrite):
        mask, meta = random_mask(SPEC, 0.3, seed), {"seed": seed, "é": [None, "x"]}
        arguments = {"meta": meta, "codec": codec, "prior": prior, "extras": {"mean": np.float32([seed, 0.5])}}
        if name in self.model and not overwrite:
            with pytest.raises(TaskExistsError):
                self.bank.put(name, mask, **arguments)
        else:
            self.bank.put(name, mask, overwrite=overwrite, **arguments)
            self.model[name] = (mask, meta, float(seed))
        return name

    @rule(name=consumes(names))
    def delete(self, name):
        if name in self.model:
            del self.bank[name]
            del self.model[name]
        else:
            with pytest.raises(TaskNotFoundError):
                self.bank.delete(name)

    @rule(name=names)
    def get(self, name):
        if name not in self.model:
            with pytest.raises(KeyError):
                self.bank[name]
            return
        mask, meta, seed = self.model[name]
        assert self.bank[name] == mask
        assert self.bank.task_meta(name) == meta
        assert self.bank.extras(name)["mean"].tolist() == [seed, 0.5]
        for layer in SPEC:
            assert np.array_equal(self.bank.layer(name, layer.name), mask.layer(layer.name))

    @rule(fails=st.booleans(), names=st.lists(st.sampled_from("abcdef"), unique=True), seed=st.integers(0, 1000))
    def put_many_or_none(self, fails, names, seed):
        before = dict(self.model)
        try:
            with self.bank.transaction():
                for name in names:
                    mask = random_mask(SPEC, 0.5, seed)
                    self.bank.put(name, mask, extras={"mean": np.float32([seed, 0.5])}, overwrite=True)
                    self.model[name] = (mask, {}, float(seed))
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            self.model = before

    @rule(mode=st.sampled_from("ra"))
    def reopen(self, mode):
        self.bank.close()
        if mode == "r":
            with MaskBank.open(self.path) as reader:
                assert [name for name, _ in reader.masks()] == list(self.model)
                assert list(reader.matrix().names) == list(self.model)
        self.bank = MaskBank.open(self.path, "a")

    @rule()
    def check_everything(self):
        assert self.bank.verify() == len(self.model)
        found = account(self.bank)
        assert found.tasks == len(self.model)
        with MaskBank.open(self.path) as reader:
            matrix = reader.matrix()
        assert [matrix[i] for i in range(len(matrix))] == [mask for mask, _, _ in self.model.values()]

    @invariant()
    def same_names_in_the_same_order(self):
        assert list(self.bank) == list(self.model)
        assert len(self.bank) == len(self.model)
        assert all(name in self.bank for name in self.model)

    def teardown(self):
        self.bank.close()
        with MaskBank.open(self.path) as bank:
            found = account(bank)
        parts = found.payload_bytes + found.side_bytes + found.index_bytes + found.slack_bytes
        assert parts == found.file_bytes == self.path.stat().st_size
        assert min(found.payload_bytes, found.side_bytes, found.index_bytes, found.slack_bytes) >= 0
        shutil.rmtree(self.folder)


TestBankMachine = BankMachine.TestCase
TestBankMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


@pytest.fixture
def path(tmp_path):
    """A closed bank of three masks."""
    with MaskBank.create(tmp_path / "three.bank", SPEC, meta={"seed": 0}) as bank:
        for i in range(3):
            bank.put(f"task-{i}", random_mask(SPEC, 0.5, i), meta={"i": i}, prior=SeededScores(0, i))
    return bank.path


def test_a_closed_bank_is_one_file_that_can_be_copied(path, tmp_path):
    assert {p.name for p in tmp_path.iterdir()} <= {"three.bank", "three.bank.lock"}
    copy = shutil.copy(path, tmp_path / "copy.bank")
    with MaskBank.open(copy) as bank:
        assert bank.meta == {"seed": 0}
        assert bank["task-2"] == random_mask(SPEC, 0.5, 2)


def test_put_takes_dicts_of_arrays_and_refuses_what_does_not_fit(path):
    with MaskBank.open(path, "a") as bank:
        bank.put("dict", random_mask(SPEC, 0.5, 9).dense())
        assert bank["dict"] == random_mask(SPEC, 0.5, 9)
        before = list(bank)
        wrong = {**random_mask(SPEC, 0.5, 9).dense(), "fc2": np.zeros((13, 5), dtype=bool)}
        with pytest.raises(SpecError, match=r"'fc2'.*\(5, 13\).*\(13, 5\)"):
            bank.put("bad", wrong)
        with pytest.raises(SpecError, match="spec"):
            bank.put("bad", random_mask(MaskSpec({"fc1": (2,)}), 0.5, 0))
        for name in ("", "a\0b", "\ud800", "x" * 513, 3):
            with pytest.raises(SpecError, match="task name"):
                bank.put(name, random_mask(SPEC, 0.5, 9))
        with pytest.raises(MaskValueError, match="metadata"):
            bank.put("bad", random_mask(SPEC, 0.5, 9), meta={"loss": float("nan")})
        with pytest.raises(MaskValueError, match="extras 'o'"):
            bank.put("bad", random_mask(SPEC, 0.5, 9), extras={"o": np.array([object()])})
        with pytest.raises(MaskValueError, match="metadata"):
            bank.put("bad", random_mask(SPEC, 0.5, 9), meta={"a": "\ud800"})
        with pytest.raises(MaskValueError, match="names that are strings"):
            bank.put("bad", random_mask(SPEC, 0.5, 9), extras={5: [1], "5": [2]})
        assert list(bank) == before


def test_what_cannot_be_a_name_is_not_found(path):
    with MaskBank.open(path, "a") as bank:
        for name in ("\ud800", "", "a\0", ["task-0"], None):
            assert name not in bank
            for look_up in (bank.__getitem__, bank.delete, bank.info, bank.extras, lambda n: bank.layer(n, "fc1")):
                with pytest.raises(TaskNotFoundError):
                    look_up(name)


def test_verify_counts_the_bytes_of_the_file(path):
    with path.open("ab") as file:
        file.write(b"junk")
    with MaskBank.open(path) as bank, pytest.raises(CorruptError, match="bytes in pages"):
        bank.verify()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "i8", ">u2", "b1"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_extras_round_trip(path, dtype, shape):
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    with MaskBank.open(path, "a") as bank:
        bank.put("x", random_mask(SPEC, 0.5, 0), extras={"first": array, "second": array.T})
        found = bank.extras("x")
    assert list(found) == ["first", "second"]
    assert np.array_equal(found["first"], array)
    assert found["first"].dtype == array.dtype.newbyteorder("<")
    assert found["second"].shape == array.T.shape


def test_modes(path, tmp_path):
    with pytest.raises(BankExistsError):
        MaskBank.create(path, SPEC)
    with pytest.raises(BankNotFoundError):
        MaskBank.open(tmp_path / "none.bank")
    with pytest.raises(BankNotFoundError):
        MaskBank.create(tmp_path / "no" / "such" / "folder.bank", SPEC)
    with pytest.raises(SpecError, match="mode"):
        MaskBank.open(path, "w")
    with pytest.raises(SpecError, match="page size"):
        MaskBank.create(tmp_path / "p.bank", SPEC, page_size=1000)
    reader = MaskBank.open(path)
    with pytest.raises(BankReadOnlyError):
        reader.put("x", random_mask(SPEC, 0.5, 0))
    with pytest.raises(BankReadOnlyError):
        del reader["task-0"]
    reader.close()
    reader.close()
    with pytest.raises(BankClosedError):
        reader["task-0"]
    assert not list(tmp_path.glob(".*"))  # no scratch files left behind


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_link_leads_to_the_bank_with_its_lock_and_its_log(path, tmp_path):
    """Through the link's own name neither would be found: two writers would not wait, a reader would miss the log."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = folder / "link.bank"
    link.symlink_to(path)
    with MaskBank.open(path, "a") as writer:
        writer.put("in the log", random_mask(SPEC, 0.5, 9))
        with MaskBank.open(link) as reader:
            assert "in the log" in reader
        with MaskBank.open(link, "a", timeout=0.05) as other, writer.transaction(), pytest.raises(BankBusyError):
            other.put("x", random_mask(SPEC, 0.5, 9))
    assert [found.name for found in folder.iterdir()] == ["link.bank"]


def test_what_a_transaction_raises_passes_as_it_is(path):
    with MaskBank.open(path, "a") as bank:

        def fail() -> None:
            with bank.transaction():
                bank.put("x", random_mask(SPEC, 0.5, 0))
                raise FileNotFoundError("elsewhere")

        with pytest.raises(FileNotFoundError, match="elsewhere") as caught:
            fail()
        assert not isinstance(caught.value, MaskStoreError)
        assert "x" not in bank


def test_a_missing_task_names_the_nearest(path):
    with MaskBank.open(path) as bank, pytest.raises(TaskNotFoundError, match="did you mean 'task-1'"):
        bank["task1"]


def test_foreign_files_are_refused_and_left_alone(tmp_path):
    files = {
        "empty": b"",
        "text": b"not a bank at all\n" * 50,
        "magic": b"SQLite format 3\0" + bytes(200),
        "short": b"SQLite format 3\0",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        for mode in "ra":
            with pytest.raises(NotABankError):
                MaskBank.open(tmp_path / name, mode)
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(NotABankError):
        MaskBank.open(tmp_path)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t(x)")
    other.commit()
    other.close()
    for mode in "ra":
        with pytest.raises(NotABankError, match="another application"):
            MaskBank.open(tmp_path / "other.db", mode)


def test_a_newer_format_is_refused_by_number(path):
    link = sqlite3.connect(path)
    link.execute("PRAGMA user_version=2")
    link.close()
    with pytest.raises(FormatVersionError, match="found 2"):
        MaskBank.open(path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON masks BEGIN DELETE FROM masks; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE more(x)",
        "ALTER TABLE masks ADD COLUMN y TEXT",
        "CREATE INDEX i ON masks(about)",
    ],
)
def test_a_schema_that_we_did_not_write_is_refused(path, statement):
    link = sqlite3.connect(path)
    link.execute(statement)
    link.commit()
    link.close()
    with pytest.raises(MaskStoreError, match="expected the tables"):
        MaskBank.open(path)


def test_a_read_only_folder_is_readable_and_says_no_to_writers(path, tmp_path, monkeypatch):
    """Root may write anywhere, so what the system would answer is put in its mouth."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: mode != os.W_OK and real(p, mode))
    with MaskBank.open(path) as bank:
        assert bank.verify() == 3
    with pytest.raises(BankReadOnlyError):
        MaskBank.open(path, "a")


def test_small_banks_stay_small(tmp_path):
    """The page size is chosen from the size of a mask: overhead beyond the coded masks stays under a tenth."""
    spec = MaskSpec({"fc1": (300, 784), "fc2": (100, 300), "fc3": (100, 100)})
    with MaskBank.create(tmp_path / "b", spec) as bank:
        for i in range(10):
            bank.put(f"task-{i}", random_mask(spec, 0.08, i))
    with MaskBank.open(tmp_path / "b") as bank:
        found = account(bank)
    assert found.total_bytes < 1.06 * (found.payload_bytes + found.side_bytes)


def test_the_golden_bank_of_version_1_reads_as_it_was_written(tmp_path):
    """A file written by the first release; it must stay readable by every later one."""
    path = shutil.copy(GOLDEN_BANK, tmp_path / "golden.bank")
    with MaskBank.open(path) as bank:
        assert bank.meta == {"model": "golden", "seed": 11}
        assert list(bank) == ["raw", "zstd", "ans", "ümläut", "gap", "mix", "reference", "mean", "kept"]
        assert bank.verify() == 9
        codecs = ["raw", "zstd", "ans", "ans", "gap", "mix", "ans", "mix", "ans"]
        assert [info.codec["id"] for info in bank.infos()] == codecs
        needed = [info.prior.get("tasks") for info in bank.infos()]
        assert needed == [None] * 6 + [["ans"], ["raw", "zstd", "mix"], [""]]
        assert len(Maintenance(bank).snapshots()) == 1
        ids = [SeededScores(11, 4).contexts(bank.spec, i).ids.astype(int) for i in range(len(bank.spec))]
        for k, name in enumerate(bank):
            bits = [(c >> 1 & 1) ^ ((c >> 2) + (7 + k) * np.arange(c.size) % 64 < 24) for c in ids]
            assert bank[name].flat().tolist() == (np.concatenate(bits) == 1).tolist()
            assert bank.task_meta(name) == {"k": k}
            assert bank.extras(name)["k"].tolist() == [k, k / 2]


def test_create_opens_the_bank_that_is_there_only_if_asked_and_if_it_is_the_same(tmp_path):
    path, spec = tmp_path / "b.bank", MaskSpec({"fc1": (2, 2)})
    with MaskBank.create(path, spec, meta={"seed": 1}, exist_ok=True) as bank:
        bank.put("t", {"fc1": [[1, 0], [0, 1]]})
    with pytest.raises(BankExistsError, match=r"expected no file at this path, found one \(`exist_ok=True` opens it\)"):
        MaskBank.create(path, spec, meta={"seed": 1})
    for meta in ({"seed": 1}, None):
        with MaskBank.create(path, spec, meta=meta, exist_ok=True) as bank:
            assert (list(bank), dict(bank.meta), bank.writable) == (["t"], {"seed": 1}, True)
    with pytest.raises(BankExistsError, match="a bank of the same layers, found one of others"):
        MaskBank.create(path, MaskSpec({"fc1": (2, 3)}), exist_ok=True)
    with pytest.raises(BankExistsError, match="a bank of the same metadata"):
        MaskBank.create(path, spec, meta={}, exist_ok=True)
    (tmp_path / "text").write_text("no bank")
    with pytest.raises(NotABankError):
        MaskBank.create(tmp_path / "text", spec, exist_ok=True)
    with MaskBank.open(path) as bank:
        assert bank.verify() == 1
