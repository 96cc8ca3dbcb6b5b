"""All checksums in one look: of a bank, and of a set of shards."""

import numpy as np

from maskstore import MaskBank, MaskSpec
from maskstore.interop import ShardSet, write_shards

SPEC = MaskSpec({"fc1": (8, 40)})


def test_checksums_are_those_of_the_records_and_change_with_a_mask(tmp_path):
    rng = np.random.default_rng(0)
    with MaskBank.create(tmp_path / "m.bank", SPEC) as bank:
        assert bank.checksums() == {}
        for number in range(5):
            bank.put(f"task-{number}", {"fc1": rng.random((8, 40)) < 0.5})
        before = bank.checksums()
        assert before == {name: bank.record(name).checksum for name in bank}
        bank.put("task-3", {"fc1": rng.random((8, 40)) < 0.5}, overwrite=True)
        bank.delete("task-4")
        after = bank.checksums()
        assert sorted(after) == [f"task-{number}" for number in range(4)]
        assert [name for name in after if after[name] != before[name]] == ["task-3"]
        write_shards(bank, tmp_path / "set", shards=2)
    with ShardSet(tmp_path / "set") as shards:
        assert shards.checksums() == {name: shards.checksum(name) for name in shards}
