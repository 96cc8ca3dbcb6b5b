"""A Ray cluster of this machine. The tests need ray (extra `cluster`), which `make test` does not install."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from maskstore import MaskBank
from supsup_models.cli.app import run_command
from supsup_models.errors import NetworkError, WorkerError
from supsup_models.runs import RayExecutor, RunRecord, Workers, run_config, train_run
from tests.helpers.commands import ROOT, error_of

pytest.importorskip("ray", reason="needs ray, the extra `cluster`")
pytestmark = pytest.mark.slow

CONFIG = run_config("permuted-digits", tasks=8, outputs=40, batches=60, recipe="dense")
WORDS = [
    *("--stream", "permuted-digits", "--tasks", "8", "--outputs", "40", "--batches", "60", "--recipe", "dense"),
    *("--cluster", "local"),
]


def masks(folder: Path) -> dict[str, bytes]:
    with MaskBank.open(folder / "masks.bank") as bank:
        assert bank.verify() == len(bank)
        return {row.name: bytes(row.data[:]) for row in bank.records()}


def fail() -> None:
    raise NetworkError("a training that fails")


def die(path: str) -> str:
    """Ends its worker the first time."""
    if not os.path.exists(path):
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done again"


def test_lost_work_is_done_again_errors_come_as_they_are_and_what_waits_is_cancelled(tmp_path: Path) -> None:
    with RayExecutor("local", workers=2) as executor:
        shared = executor.share(b"x" * 1_000_000)
        assert executor.submit(len, shared).result() == 1_000_000
        assert str(executor) == "Ray cluster local: 2 workers on 1 machine"
        with pytest.raises(NetworkError, match="a training that fails"):
            executor.submit(fail).result()
        assert executor.submit(die, str(tmp_path / "died")).result() == "done again"
        waiting = [executor.submit(time.sleep, 600) for _ in range(4)]
        assert all(each.cancel() for each in waiting)
        train_run(CONFIG, tmp_path / "ray", executor=Workers(executor, tasks=3))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(len, b"")
    train_run(CONFIG, tmp_path / "plain")
    assert masks(tmp_path / "ray") == masks(tmp_path / "plain")
    records = [RunRecord.read(tmp_path / name) for name in ("ray", "plain")]
    assert [task["accuracy"] for task in records[0].tasks] == [task["accuracy"] for task in records[1].tasks]


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "supsup_models", "train", *WORDS, "--tasks", "60", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            assert any(line.startswith("task-0") for line in process.stderr)
            process.send_signal(signal.SIGINT)
            lines = process.stderr.read().splitlines()
            assert process.wait(120) == 130
        finally:
            process.kill()
    assert lines[-1] == "supsup: interrupted; the same command goes on from what is finished"
    kept = len(masks(tmp_path / "run"))
    assert 1 <= kept < 60
    config = replace(CONFIG, tasks=60)
    with MaskBank.open(tmp_path / "run" / "masks.bank") as bank:
        assert list(bank) == [f"task-{number}" for number in range(kept)]
    again = subprocess.run([*command[:-1], str(tmp_path / "run")], env=environment, capture_output=True, timeout=300)
    assert again.returncode == 0
    assert list(masks(tmp_path / "run")) == [f"task-{number}" for number in range(60)]
    assert RunRecord.read(tmp_path / "run").config == config


def test_a_cluster_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(WorkerError, match="Ray cluster auto: expected to reach or start it, found"):
        RayExecutor("auto").share(1)
    capsys.readouterr()
    assert run_command(["train", *WORDS[:-1], "auto", "--out", str(tmp_path / "run")]) == 1
    assert "expected to reach or start it" in error_of(capsys)
