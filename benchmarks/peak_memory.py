"""Peak memory of one-shot inference over k masks, packed or dense: run as a program, prints the growth in bytes.

    python -m benchmarks.peak_memory packed|dense K

In a process of its own, because a peak never comes down again. The growth is counted from after the libraries and the
network were loaded and both ran once on a few masks. The high-water mark is the process' own (VmHWM): `ru_maxrss` of a
child starts at its parent's.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.dense_one_shot import dense_one_shot, dense_stack
from maskstore import MaskMatrix
from supsup_models import MaskedNetwork, infer_task
from tests.helpers.masks import random_matrix


def memory(what: str) -> int:
    """Bytes that this process has now (`VmRSS`), or had at most (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise OSError(f"memory: expected {what} in /proc/self/status, found none")


def infer(kind: str, model: MaskedNetwork, matrix: MaskMatrix, images: torch.Tensor) -> np.ndarray:
    """One-shot scores, `(k,)`, either way."""
    if kind == "packed":
        return infer_task(model, matrix, images).scores
    return dense_one_shot(model, dense_stack(matrix), images).numpy()


def main() -> None:
    """Print the growth of the peak."""
    kind, k = sys.argv[1], int(sys.argv[2])
    model = MaskedNetwork("lenet-300-100", inputs=784, outputs=100, seed=0)
    images = torch.randn(128, 784)
    for each in ("packed", "dense"):
        infer(each, model, random_matrix(model.spec, 16), images)
    before = memory("VmRSS")
    infer(kind, model, random_matrix(model.spec, k), images)
    print(memory("VmHWM") - before)


if __name__ == "__main__":
    main()
