"""Compaction: smaller, the same to the bit, invisible to readers until it is complete, and all or nothing."""

import json
import os
import signal
import time

import numpy as np
import pytest

import maskstore.bank.compaction as module
from maskstore import Mask, MaskBank, MaskSpec
from maskstore.bank import Maintenance, coding
from maskstore.bank.compaction import compact
from maskstore.errors import BankBusyError, CodecError, CorruptError
from maskstore.philox import Role, random_uniform
from maskstore.priors import SeededScores, Uniform
from tests.helpers.commands import in_fresh_process
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (40, 60), "fc2": (10, 40)})


def trained_like(task):
    """A mask that differs from the sign of its initial scores in a rank-one pattern."""
    rng, layers = np.random.default_rng(task), {}
    for i, layer in enumerate(SPEC):
        score = random_uniform(1, Role.SCORE, layer.size, layer=i, stream=task).reshape(layer.shape)
        layers[layer.name] = score + np.outer(*(rng.standard_normal(n) for n in layer.shape)) > 0
    return Mask.from_dense(layers, SPEC)


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "b.bank", SPEC, meta={"seed": 1}) as opened:
        for i in range(5):
            extras = {"mean": np.arange(3.0) + i}
            opened.put(f"seeded {i}", trained_like(i), meta={"i": i}, extras=extras, prior=SeededScores(1, i))
            opened.put(f"plain {i}", random_mask(SPEC, 0.5, i), codec="raw")
        opened.put("gone", random_mask(SPEC, 0.5, 99), codec="raw")
        opened.delete("gone")
    return opened.path


def content(path):
    with MaskBank.open(path) as opened:
        assert opened.verify() == len(opened)
        rows = [(r.id, r.name, r.meta, r.prior, r.extras, coding.decode_mask(r, SPEC)) for r in opened.records()]
        return opened.meta, rows


def test_it_is_smaller_and_the_same_to_the_bit(bank):
    before, size = content(bank), bank.stat().st_size
    seen = []
    found = compact(bank, on_mask=lambda done, of: seen.append((done, of)))
    assert content(bank) == before
    assert found.bytes_before == size
    assert found.bytes_after == bank.stat().st_size < size
    assert (found.tasks, found.recoded) == (10, 5)
    assert seen == [(i, 20) for i in range(1, 21)]
    with MaskBank.open(bank) as opened:
        assert {info.codec["id"] for info in opened.infos()} == {"mix", "raw"}
    assert compact(bank).recoded == 0


def test_readers_see_the_old_bank_until_it_is_done_and_then_the_new_one(bank):
    with MaskBank.open(bank) as reader:
        before = reader.record("seeded 0")
        seen = []
        compact(bank, on_mask=lambda done, of: seen.append(reader.record("seeded 0") == before))
        assert all(seen)
        after = reader.record("seeded 0")
        assert after.codec != before.codec
        assert coding.decode_mask(after, SPEC) == coding.decode_mask(before, SPEC)


def test_another_writer_waits_and_loses_nothing(bank):
    with MaskBank.open(bank, "a", timeout=0.05) as writer:

        def put_meanwhile(done, of):
            if done == 3:
                with pytest.raises(BankBusyError):
                    writer.put("late", random_mask(SPEC, 0.5, 7))

        compact(bank, on_mask=put_meanwhile)
        writer.put("late", random_mask(SPEC, 0.5, 7))  # its connection, older than the compaction, sees the new file
    assert content(bank)[1][-1][1] == "late"


def test_a_mask_that_comes_back_changed_leaves_the_bank_as_it_was(bank, monkeypatch):
    image = bank.read_bytes()

    def wrong(row, spec, codec, related):
        return coding.sealed(coding.encode_record(row.name, random_mask(SPEC, 0.5, 1), codec, Uniform()), row.id)

    monkeypatch.setattr(module, "_recoded", wrong)
    with pytest.raises(CorruptError, match="expected to read back what was stored"):
        compact(bank)
    assert bank.read_bytes() == image


def test_an_interrupt_leaves_the_bank_as_it_was(bank):
    image = bank.read_bytes()

    def stop(done, of):
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(bank, on_mask=stop)
    assert bank.read_bytes() == image


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("at", [4, 19])
def test_a_kill_leaves_the_bank_as_it_was(bank, at):
    before = content(bank)
    script = (
        "import os, signal, sys\n"
        "from maskstore.bank.compaction import compact\n"
        "def stop(done, of):\n"
        f"    if done == {at}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "compact(sys.argv[1], on_mask=stop)\n"
    )
    ended = in_fresh_process(script, bank)
    assert ended.returncode == -signal.SIGKILL
    assert content(bank) == before
    assert compact(bank).recoded == 5
    assert content(bank) == before


def test_an_unknown_level_is_named(bank):
    with pytest.raises(CodecError, match="fast or max"):
        compact(bank, level="best")


def test_the_command(bank, command, monkeypatch):
    clock = iter(range(0, 3000, 3))
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(clock))
        code, out, err = command("compact", bank, "--level", "max", "--json")
    assert code == 0
    assert json.loads(out)["recoded"] == 5
    assert "% coded and checked" in err
    code, out, err = command("compact", bank)
    assert (code, out) == (0, "")
    assert "0 of 10 masks smaller" in err
    assert command("compact", bank, "--level", "mx")[0] == 2
    assert command("compact", bank.with_name("none.bank"))[0] == 1


def test_pages_are_not_given_back_in_the_middle_of_a_transaction(bank):
    with MaskBank.open(bank, "a") as opened, opened.transaction(), pytest.raises(BankBusyError, match="transaction"):
        Maintenance(opened).vacuum()


def _small_bank(path, seed):
    """A few related masks, each with a text of its own, in pages of 512 bytes."""
    rng, spec = np.random.default_rng(seed), MaskSpec({"a": (20, 20)})
    base = rng.random(spec.bits) < 0.2
    with MaskBank.create(path, spec, page_size=512) as bank:
        for i in range(4 + seed % 8):
            mask = Mask.from_flat(base ^ (rng.random(spec.bits) < 0.02), spec)
            bank.put(f"t{i}", mask, meta={"x": "y" * int(rng.integers(0, 40))})
        return dict(bank.masks())


@pytest.mark.parametrize("seed", [0, 1, 5, 14, 54])
@pytest.mark.parametrize("forgetful", [False, True])
def test_a_small_bank_never_grows(tmp_path, monkeypatch, seed, forgetful):
    """`forgetful`: what decides for a mask leaves out what its texts take, so that the whole bank would grow."""
    masks = _small_bank(tmp_path / "a.bank", seed)
    before = compact(tmp_path / "a.bank", level="fast").bytes_after
    if forgetful:
        monkeypatch.setattr(module, "cost_of", lambda row: len(row.data))
    done = compact(tmp_path / "a.bank", level="max")
    assert done.bytes_after <= before
    assert not (forgetful and done.recoded)
    with MaskBank.open(tmp_path / "a.bank") as bank:
        assert bank.verify() == len(masks)
        assert dict(bank.masks()) == masks
