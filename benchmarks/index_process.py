"""One-shot inference over an index in a process of its own, for `bench_index.py`; prints what it found as JSON.

    python -m benchmarks.index_process INDEX IMAGES memory|mapped [GROUP]

`memory` copies all masks into memory first. GROUP is the folder of a memory control group that the process joins.
"""

import json
import os
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from maskstore import MaskMatrix, open_index
from supsup_models import MaskedNetwork, TaskInference


def main() -> None:
    """Ask for every image twice, and print the seconds and the task of the second time."""
    index, images, kind, *group = sys.argv[1:]
    if group:
        (Path(group[0]) / "cgroup.procs").write_text(str(os.getpid()))
    model, matrix = MaskedNetwork("lenet-300-100", inputs=784, outputs=100, classes=10, seed=0), open_index(index)
    if kind == "memory":
        mapped, matrix = matrix, MaskMatrix(model.spec, room=len(matrix))
        for name in mapped.names:
            matrix.append(name, mapped[name])
    inference, shown = TaskInference(model, matrix), torch.from_numpy(np.load(images)).split(1)
    for image in shown:
        inference.infer(image, method="one-shot", error=1e-4)
    seconds, tasks = [], []
    for image in shown:
        start = perf_counter()
        tasks.append(inference.infer(image, method="one-shot", error=1e-4).task)
        seconds.append(perf_counter() - start)
    print(json.dumps({"seconds": seconds, "tasks": tasks}))


if __name__ == "__main__":
    main()
