"""Full weight masks through the dual form: `pytest benchmarks/ -k hopfield_weights -s --full`.

Trains 100 PermutedMNIST masks of LeNet-300-100 with 100 outputs by the paper's recipe, 1000 batches each, then recovers
each from unlabelled test images; without `--full` 10 masks of 300 batches. The same for sparse masks of the default
recipe, from one gradient and by two memories. Needs MNIST.
"""

import os
from pathlib import Path

import pytest

from supsup_models.errors import DataNotFoundError
from supsup_models.runs.config import run_config
from supsup_models.runs.recover import recover_run
from supsup_models.runs.train import train_run


def data() -> Path | None:
    return Path(os.environ["MASKSTORE_DATA"]) if "MASKSTORE_DATA" in os.environ else None


def trained(run: Path, recipe: str, full: bool) -> tuple[int, int]:
    """Train the run; its tasks, and the batches of each."""
    tasks, batches = (100, 1000) if full else (10, 300)
    config = run_config("permuted-mnist", tasks=tasks, batches=batches, recipe=recipe)
    try:
        train_run(config, run, data=data(), device="cpu")
    except DataNotFoundError as error:
        pytest.skip(f"needs the MNIST files: {error}")
    return tasks, batches


def test_hopfield_weights_of_lenet_by_the_dual_form(full: bool, tmp_path: Path) -> None:
    tasks, batches = trained(tmp_path / "run", "paper", full)
    found = recover_run(tmp_path / "run", data=data())
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


def test_hopfield_weights_sparse_from_one_gradient(full: bool, tmp_path: Path) -> None:
    """By the masks themselves, coded in fewer bytes than packed ones take, and by the projection in its dual form."""
    tasks, batches = trained(tmp_path / "run", "default", full)
    for rule in ("coded", "pseudo-inverse"):
        found = recover_run(tmp_path / "run", recipe="cue", rule=rule, data=data())
        times = found["memory_bytes"] / found["mask_bytes"]
        sure = min((task["confidence"] for task in found["per_task"] if task["exact"]), default=0.0)
        print(
            f"\n| sparse LeNet-300-100/100 masks, k = {tasks}, {batches} batches each, {rule}: exact; steps of "
            f"{found['step_images']} images; accuracy found, true; least confidence of right answers; memory / packed "
            f"| >= 98; <= 13; -; -; coded < 0.3 | {found['exact']}; {found['steps']}; {found['accuracy']:.4f}, "
            f"{found['true_accuracy']:.4f}; {sure:.3f}; {times:.2f} |"
        )
        assert found["exact"] >= 0.9 * tasks
        assert found["steps"] <= 13
        assert rule != "coded" or times < 0.3
