"""Masks coded against other masks: nothing that happens to one ever changes or orphans another."""

import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.bank import Maintenance, check_sum, relations, standalone
from maskstore.bank.accounting import account
from maskstore.bank.coding import decode_mask
from maskstore.bank.compaction import compact
from maskstore.errors import CodecError, TaskNotFoundError
from maskstore.interop import ShardReader, write_safetensors, write_shard
from maskstore.interop.detect import read_masks
from maskstore.interop.diff import diff_banks
from maskstore.interop.merging import merge
from maskstore.priors import Reference, SeededScores
from tests.helpers.masks import random_mask
from tests.helpers.related_masks import PARENT, SPEC, like, make_bank, masks_of


@pytest.fixture
def bank(tmp_path):
    return make_bank(tmp_path / "a.bank")


def test_related_masks_take_few_bytes(bank):
    with MaskBank.open(bank) as opened:
        sizes = {info.name: info.coded_bytes for info in opened.infos()}
        assert sizes["one"] < 0.5 * sizes["base"]
        assert sizes["mean"] < 0.4 * sizes["base"]
        assert opened.info("one").prior == {
            "id": "reference",
            "given": {"id": "seeded-scores", "seed": 3, "task": 1},
            "tasks": ["base"],
        }


def test_what_others_need_stays_as_a_snapshot_as_long_as_they_need_it(bank):
    before = masks_of(bank)
    with MaskBank.open(bank, "a") as opened:
        size = opened.info("base").coded_bytes
        opened.delete("base")
        assert opened.info("mean").prior["tasks"] == ["", "second", "third"]
        (kept,) = Maintenance(opened).snapshots()
        assert (kept.name, kept.meta, kept.extras, len(kept.data)) == ("", "{}", b"", size)
        found = account(opened)
        assert (found.tasks, found.snapshots, found.snapshot_bytes) == (4, 1, size)
        opened.put("third", random_mask(SPEC, 0.3, 99), overwrite=True)
        assert list(opened) == ["second", "third", "one", "mean"]
        assert len(Maintenance(opened).snapshots()) == 2
        assert opened["one"] == before["one"]
        assert opened["mean"] == before["mean"]
        assert opened.verify() == 4
        opened.delete("mean")
        assert len(Maintenance(opened).snapshots()) == 1
        opened.delete("one")
        assert Maintenance(opened).snapshots() == []


def test_a_mask_may_be_replaced_by_one_coded_against_itself(bank):
    new = like(PARENT, 0.02, 55)
    with MaskBank.open(bank, "a") as opened:
        opened.put("base", new, prior=Reference("base"), overwrite=True)
        assert opened["base"] == new
        assert opened.info("base").prior["tasks"] == [""]
        assert len(Maintenance(opened).snapshots()) == 1
        assert opened.verify() == 5


def test_the_mask_of_a_snapshot_that_is_put_again_is_stored_once(bank):
    before = masks_of(bank)
    with MaskBank.open(bank, "a") as opened:
        row = opened.record("base")
        opened.delete("base")
        Maintenance(opened).put_record(row)
        assert Maintenance(opened).snapshots() == []
        assert opened.info("one").prior["tasks"] == ["base"]
        assert dict(opened.masks()) == before


def test_what_needs_others_cannot_be_needed(bank):
    with MaskBank.open(bank, "a") as opened:
        with pytest.raises(CodecError, match="'one', which needs some"):
            opened.put("x", PARENT, prior=Reference("one"))
        with pytest.raises(TaskNotFoundError, match=r"'bse'.*did you mean 'base'"):
            opened.put("x", PARENT, prior=Reference("bse"))
        with pytest.raises(CodecError, match="found none"):
            opened.put("x", PARENT, prior=Reference())
        assert "x" not in opened
        assert opened.verify() == 5


def test_a_record_made_to_stand_alone_has_the_same_bits(bank):
    with MaskBank.open(bank) as opened:
        row = opened.record("mean")
        alone = standalone(row, SPEC)
        check_sum(alone)
        assert not alone.bases
        assert decode_mask(alone, SPEC) == opened["mean"]
        assert standalone(opened.record("base"), SPEC) == opened.record("base")


def test_merging_brings_what_is_needed_once_and_under_its_new_name(bank, tmp_path):
    before = masks_of(bank)
    merge([str(bank)], tmp_path / "b.bank", prefix="x/")
    with MaskBank.open(tmp_path / "b.bank") as opened:
        assert {name.removeprefix("x/"): mask for name, mask in opened.masks()} == before
        assert Maintenance(opened).snapshots() == []
        assert opened.info("x/mean").prior["tasks"] == ["x/base", "x/second", "x/third"]
        assert opened.verify() == 5


def test_a_merge_that_replaces_what_is_needed_keeps_a_snapshot(bank, tmp_path):
    before = masks_of(bank)
    other = random_mask(SPEC, 0.5, 1234)
    with MaskBank.create(tmp_path / "b.bank", SPEC) as opened:
        opened.put("base", other)
    merge([str(tmp_path / "b.bank")], bank, overwrite=True)
    after = masks_of(bank)
    assert after == {**before, "base": other}
    with MaskBank.open(bank) as opened:
        assert len(Maintenance(opened).snapshots()) == 1
        assert opened.verify() == 5


def test_shards_and_exports_hold_masks_that_stand_alone(bank, tmp_path):
    before = masks_of(bank)
    with MaskBank.open(bank) as opened:
        write_shard(opened, tmp_path / "a.shard")
        write_safetensors(opened, tmp_path / "a.safetensors")
        with ShardReader(tmp_path / "a.shard") as shard:
            assert shard.verify() == 5
            assert {name: shard[name] for name in shard} == before
            assert not any(row.bases for row in shard.records())
            assert shard.info("one").prior == {"id": "seeded-scores", "seed": 3, "task": 1}
            assert shard.info("one").meta == {"k": 1}
            assert diff_banks(opened, shard).same
    read = {task.name: task for task in read_masks(tmp_path / "a.safetensors").tasks}
    assert {name: task.mask for name, task in read.items()} == before
    assert read["one"].prior == SeededScores(3, 1)


def test_compaction_finds_relations_where_they_pay(tmp_path):
    spec = MaskSpec({"fc1": (60, 80)})
    parents = [random_mask(spec, 0.5, seed) for seed in (100, 200)]
    with MaskBank.create(tmp_path / "a.bank", spec) as opened:
        for n in range(12):
            opened.put(f"t{n}", like(parents[n % 2], 0.02, n), meta={"n": n})
        for n in range(4):
            opened.put(f"stranger {n}", random_mask(spec, 0.5, 900 + n))
    before = masks_of(opened.path)
    compact(opened.path)
    assert masks_of(opened.path) == before
    with MaskBank.open(opened.path) as opened:
        assert opened.verify() == 16
        related = {info.name: info.prior["tasks"] for info in opened.infos() if "tasks" in info.prior}
        assert len(related) == 10
        assert all(len(tasks) <= relations.MOST_BASES for tasks in related.values())
        assert all(int(name[1:]) % 2 == int(task[1:]) % 2 for name, tasks in related.items() for task in tasks)
    size = opened.path.stat().st_size
    assert compact(opened.path).recoded == 0
    assert (masks_of(opened.path), opened.path.stat().st_size) == (before, size)
