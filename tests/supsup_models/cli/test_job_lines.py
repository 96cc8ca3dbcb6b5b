"""The lines of `docs/clusters.md` that start several jobs on one machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maskstore import MaskBank
from tests.helpers.commands import ROOT

LINES = [line for line in (ROOT / "docs" / "clusters.md").read_text().splitlines() if line]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["seq 0 2 | xargs", "parallel "])
def test_a_line_trains_all_shards_and_the_next_one_merges_them(start: str, tmp_path: Path) -> None:
    if shutil.which(start.split()[-1]) is None:
        pytest.skip(f"needs the program {start.split()[-1]}")
    (line,) = (each for each in LINES if each.startswith(start))
    (merge,) = (each for each in LINES if each.startswith("supsup merge-runs shard-*"))
    program = tmp_path / "bin" / "supsup"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m supsup_models "$@"\n')
    program.chmod(0o755)
    here = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for each in (line.replace("--batches 200", "--batches 5 --recipe dense"), merge):
        assert "--batches 200" not in each
        done = subprocess.run(
            ["sh", "-c", each], cwd=tmp_path, env={**os.environ, **here}, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
    with MaskBank.open(tmp_path / "run" / "masks.bank") as bank:
        assert list(bank) == [f"task-{number}" for number in range(12)]
        assert bank.verify() == 12
