"""`maskstore export BANK TARGET --shards N`: a shard set, that the other commands read as a bank."""

import pytest

from maskstore import MaskBank
from maskstore.interop import ShardSet
from tests.helpers.foreign_files import example_bank


@pytest.fixture
def bank(tmp_path):
    return example_bank(tmp_path / "a.bank", tasks=5).path


def test_written_appended_and_read(bank, tmp_path, command):
    target = tmp_path / "tasks"
    code, _, notes = command("export", bank, target, "--shards", 2)
    assert (code, "5 masks in 2 new shards (generation 1)" in notes) == (0, True)
    with MaskBank.open(bank, "a") as opened:
        opened.put("new", opened["task-1"])
    code, _, notes = command("export", bank, target, "--shards", 3, "--append")
    assert (code, "1 masks in 1 new shards (generation 2)" in notes) == (0, True)
    with ShardSet(target) as tasks:
        assert list(tasks)[-1] == "new"
    assert command("diff", bank, target)[0] == 0
    assert command("merge", target, tmp_path / "back.bank")[0] == 0
    assert command("diff", bank, tmp_path / "back.bank")[0] == 0


def test_a_set_that_is_there_is_refused_in_words_of_the_command(bank, tmp_path, command):
    assert command("export", bank, tmp_path / "tasks", "--shards", 1)[0] == 0
    code, _, notes = command("export", bank, tmp_path / "tasks", "--shards", 1)
    assert code == 1
    assert "(--append adds to it, --overwrite replaces it)" in notes
    assert command("export", bank, tmp_path / "tasks", "--shards", 1, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--append"],
        ["--shards", "0"],
        ["--shards", "2", "--append", "--overwrite"],
        ["--shards", "2", "--format", "npz"],
    ],
)
def test_options_that_contradict(bank, tmp_path, command, options):
    assert command("export", bank, tmp_path / "tasks", *options)[0] == 2
    assert not (tmp_path / "tasks").exists()
