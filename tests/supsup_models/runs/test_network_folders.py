"""Runs on network file systems: a list of what is mounted stands in for the real one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskstore.errors import NetworkFileSystemError
from maskstore.files import file_systems
from supsup_models.cli.app import run_command
from supsup_models.data import open_stream
from supsup_models.runs import Run, load_run, merge_runs, run_config, train_run
from tests.helpers.commands import error_of

CONFIG = run_config("permuted-digits", tasks=2, outputs=40, batches=5, recipe="dense")
Mount = Callable[[Path], None]


@pytest.fixture
def mount(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Mount:
    def to_network(folder: Path) -> None:
        listed = tmp_path_factory.mktemp("mounts") / "mountinfo"
        listed.write_text(f"1 0 0:1 / / rw - ext4 disk rw\n2 1 0:2 / {folder} rw - lustre server rw\n")
        monkeypatch.setattr(file_systems, "_MOUNTS", listed)

    return to_network


def test_training_into_a_network_folder_is_refused_and_leaves_nothing(
    tmp_path: Path, mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    mount(tmp_path)
    with pytest.raises(NetworkFileSystemError, match=r"lustre at .*; write to a local folder and copy"):
        train_run(CONFIG, tmp_path / "run")
    capsys.readouterr()
    words = ["train", "--stream", "permuted-digits", "--tasks", "1", "--batches", "5", "--out", str(tmp_path / "run")]
    assert run_command(words) == 1
    assert "docs/clusters.md" in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_run_there_is_used_where_the_caller_says_that_it_is_immutable(
    tmp_path: Path, mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    share, images = tmp_path / "share", tmp_path / "images.npy"
    share.mkdir()
    train_run(CONFIG, share / "run")
    np.save(images, open_stream("permuted-digits")[1].test.images(slice(0, 2)).numpy())
    mount(share)
    with pytest.raises(NetworkFileSystemError, match="`immutable=True`"):
        load_run(share / "run")
    assert load_run(share / "run", immutable=True).matrix.names == ("task-0", "task-1")
    assert Run.open(share / "run", immutable=True).evaluate("GG", limit=4).tasks == 2
    for words in (
        ["eval", share / "run", "--limit", "4"],
        ["infer", share / "run", images],
        ["report", share / "run", "-o", tmp_path / "r.html", "--limit", "4", "--compare", share / "run"],
        ["recover", share / "run", "--tasks", "1"],
    ):
        capsys.readouterr()
        assert run_command([str(word) for word in words]) == 1
        assert "--immutable reads the bank" in error_of(capsys)
        assert run_command([*(str(word) for word in words), "--immutable"]) == 0


def test_shards_there_are_merged_onto_a_local_disk(
    tmp_path: Path, mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    share = tmp_path / "share"
    parts = [share / f"shard-{index}" for index in range(2)]
    for index, part in enumerate(parts):
        train_run(CONFIG, part, shard=f"{index}/2")
    mount(share)
    with pytest.raises(NetworkFileSystemError):
        merge_runs(parts, tmp_path / "run")
    with pytest.raises(NetworkFileSystemError, match="expected a disk of this machine to write"):
        merge_runs(parts, share / "run", immutable=True)
    assert not list(share.glob("*run*"))
    capsys.readouterr()
    words = ["merge-runs", *map(str, parts), "--out", str(tmp_path / "run"), "--immutable"]
    assert run_command(words) == 0
    assert load_run(tmp_path / "run").matrix.names == ("task-0", "task-1")
