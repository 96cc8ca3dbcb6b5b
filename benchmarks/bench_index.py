"""One-shot inference over masks in a file, against masks in memory: `pytest benchmarks/ -k index -s --full`.

The masks are those of `bench_leader.py`: trained ones in random rows among copies with permuted columns. Each way runs
in a process of its own, which asks for every image twice and counts the second time. The file is asked as it lies, then
with 1 GB of memory for the process and the pages of the file (a memory control group of Linux, version 1, which needs
root; left out without).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bench_leader import changed_copies
from maskstore import MaskBank, write_index
from supsup_models import RECIPES, MaskedNetwork, NumberedTask, open_stream, train_many

GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT = 10**9


@pytest.mark.mnist
def test_index(full: bool, tmp_path: Path) -> None:
    count, each, tasks = (60_000, 3, 40) if full else (2000, 2, 4)
    model = MaskedNetwork("lenet-300-100", inputs=784, outputs=100, classes=10, seed=0)
    stream = open_stream("permuted-mnist", tasks=tasks)
    numbered = [NumberedTask(task.index, task.train) for task in stream]
    trained = [one.mask for one in train_many(model, numbered, RECIPES["paper"], steps=1000 if full else 200)]
    with MaskBank.create(tmp_path / "tasks.bank", model.spec) as bank:
        masks, rows = changed_copies(trained, count, seed=1)
        with bank.transaction():
            for row, mask in enumerate(masks):
                bank.put(f"task-{row}", mask, codec="raw")
        path = write_index(bank)
    np.save(tmp_path / "images.npy", torch.cat([task.test.images(slice(100, 100 + each)) for task in stream]).numpy())
    ways = {"memory": ["memory"], "mapped": ["mapped"]}
    if os.access(GROUPS / "cgroup.procs", os.W_OK):
        group = GROUPS / f"maskstore-{os.getpid()}"
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
        ways["mapped, 1 GB"] = ["mapped", str(group)]
    medians = {}
    for way, arguments in ways.items():
        if len(arguments) > 1:  # else the pages that others have brought in count for nobody
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("1")
        command = [
            sys.executable,
            "-m",
            "benchmarks.index_process",
            str(path),
            str(tmp_path / "images.npy"),
            *arguments,
        ]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout)
        seconds, right = 1e3 * np.array(found["seconds"]), np.mean(np.array(found["tasks"]) == np.repeat(rows, each))
        medians[way] = np.median(seconds)
        print(
            f"\nindex, k = {count}, {way}: median {medians[way]:.1f} ms, mean {seconds.mean():.1f}, most "
            f"{seconds.max():.0f}; tasks found {right:.3f}; {medians[way] / medians['memory']:.2f} x memory"
        )
        assert right > (0.95 if full else 0.5)
    if len(ways) > 2:
        group.rmdir()
