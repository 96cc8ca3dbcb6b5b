"""Full weight masks through the dual form: `pytest benchmarks/ -k hopfield_weights -s --full`.

Trains 100 PermutedMNIST masks of LeNet-300-100 with 100 outputs by the paper's recipe, 1000 batches each, then recovers
each from unlabelled test images; without `--full` 10 masks of 300 batches. Needs MNIST.
"""

import os
from pathlib import Path

import pytest

from supsup_models.errors import DataNotFoundError
from supsup_models.runs.record import RunConfig
from supsup_models.runs.recover import recover_run
from supsup_models.runs.train import train_run


def test_hopfield_weights_of_lenet_by_the_dual_form(full: bool, tmp_path: Path) -> None:
    tasks, batches = (100, 1000) if full else (10, 300)
    folder = Path(os.environ["MASKSTORE_DATA"]) if "MASKSTORE_DATA" in os.environ else None
    config = RunConfig("permuted-mnist", tasks, "lenet-300-100", 100, batches, "paper", 0)
    try:
        train_run(config, tmp_path / "run", data=folder, device="cpu")
    except DataNotFoundError as error:
        pytest.skip(f"needs the MNIST files: {error}")
    found = recover_run(tmp_path / "run", data=folder)
    times = found["memory_bytes"] / found["mask_bytes"]
    print(
        f"\n| LeNet-300-100/100 weight masks, d = 275 200, k = {tasks}, {batches} batches each: exact; steps of "
        f"{found['step_images']} images; accuracy found, true; nearest mask; memory / packed masks "
        f"| >= 98; -; -; -; < 2 | {found['exact']}; {found['steps']}; {found['accuracy']:.4f}, "
        f"{found['true_accuracy']:.4f}; {found['overlap_argmax']}; {times:.2f} |"
    )
    assert found["exact"] >= 0.98 * tasks
    # beside k masks of d bits 32 d for the diagonal and 128 k² for the two k x k matrices
    assert times < 1.01 + 32 / tasks + 128 * tasks / 275_200
