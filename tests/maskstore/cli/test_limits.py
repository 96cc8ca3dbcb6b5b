"""`--limit`: each command that decodes what a file claims takes it, and an error names it."""

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.interop import write_npz, write_safetensors, write_shard
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (40, 80)})
NEEDED = 40 * 80 * 20  # ample for two masks, also unpacked and by slow codecs
READING = {
    "stats": ["stats", "a.bank"],
    "verify": ["verify", "a.bank"],
    "get": ["get", "a.bank", "t0", "-o", "out.npz", "--overwrite"],
    "get a layer": ["get", "a.bank", "t0", "--layer", "fc1", "-o", "out.npz", "--overwrite"],
    "compact": ["compact", "a.bank", "--level", "fast"],
    "export": ["export", "a.bank", "out.safetensors", "--overwrite"],
    "export to .npz": ["export", "a.bank", "out.npz", "--overwrite"],
    "export of a shard": ["export", "a.shard", "out.npz", "--overwrite"],
    "diff": ["diff", "a.bank", "a.shard"],
    "diff of tasks": ["diff", "a.bank", "--tasks", "t0", "t0"],
    "import": ["import", "a.npz", "new.bank", "--overwrite"],
    "import of tensors": ["import", "a.safetensors", "new.bank", "--overwrite"],
    "import of an array": ["import", "a.npy", "new.bank"],
    "put": ["put", "new.bank", "t", "mask.npz", "--create", "--overwrite"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MaskBank.create("a.bank", SPEC) as bank:
        for task in range(2):
            bank.put(f"t{task}", random_mask(SPEC, 0.1, task))
        write_shard(bank, "a.shard")
        write_npz(bank, "a.npz")
        write_safetensors(bank, "a.safetensors")
    np.save("a.npy", np.ones((40, 80), dtype=bool))
    np.savez_compressed("mask.npz", fc1=np.zeros((40, 80), dtype=bool))
    return tmp_path


@pytest.mark.parametrize("what", READING)
def test_a_command_that_decodes_takes_a_limit(what, folder, command):
    before = (folder / "a.bank").read_bytes()
    code, out, error = command(*READING[what], "--limit", 10)
    assert (code, out) == (1, "")
    assert "--limit" in error or "--limit" in error.replace("`", "")
    assert "MaskBank.open" not in error
    assert (folder / "a.bank").read_bytes() == before
    assert not (folder / "new.bank").exists()
    assert command(*READING[what], "--limit", NEEDED)[0] == 0
    code, _, error = command(*READING[what], "--limit", -1)
    assert code == 2
    assert "--limit" in error
