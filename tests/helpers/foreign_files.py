"""Writers of foreign layouts, made from what is known of each; the importers are held against them."""

import argparse
import math
from pathlib import Path

import numpy as np

from maskstore import MaskBank, MaskSpec
from maskstore.priors import SeededScores


def supsup_checkpoint(
    path: Path,
    *,
    layers: dict[str, tuple[int, ...]],
    tasks: int = 3,
    seed: int = 0,
    parallel: bool = False,
    weights: bool = True,
    **arguments: object,
) -> dict[str, np.ndarray]:
    """A checkpoint as the reference code saves it; returns the scores by name."""
    import torch

    options = {
        "conv_type": "FastMultitaskMaskConv", "bn_type": "StandardBN", "conv_init": "signed_constant",
        "mode": "fan_in", "nonlinearity": "relu", "sparsity": 0.5, "er_sparsity": False, "num_tasks": tasks,
        "train_weight_tasks": 0, "task_eval": None, "individual_heads": False, "seed": 1, "model": "LeNet",
        "set": "MNISTPerm", "device": torch.device("cpu"), "run_base_dir": Path("runs/try=0"), **arguments,
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    state, scores = {}, {}
    for layer, shape in layers.items():
        if weights and len(shape) > 1:
            constant = math.sqrt(2 / math.prod(shape[1:]))
            signs = np.where(rng.random(shape) < 0.5, -1, 1)
            state[f"{layer}.weight"] = torch.from_numpy((signs * constant).astype(np.float32))
        for task in range(tasks):
            values = rng.uniform(-0.1, 0.1, shape).astype(np.float32)
            values[rng.random(shape) < 0.05] = 0.0  # the threshold itself, where >= and > differ
            values[rng.random(shape) < 0.02] = -0.0
            scores[f"{layer}.scores.{task}"] = values
            state[f"{layer}.scores.{task}"] = torch.from_numpy(values)
    if parallel:
        state = {f"module.{key}": value for key, value in state.items()}
    torch.save(
        {
            "epoch": 1, "arch": options["model"], "state_dict": state, "best_acc1": [0.9] * tasks,
            "curr_acc1": [0.8] * tasks, "args": argparse.Namespace(**options),
        },
        path,
    )  # fmt: skip
    return scores


def example_bank(path: Path, *, tasks: int = 4, seed: int = 0, prefix: str = "task-") -> MaskBank:
    """A bank with odd shapes, metadata, extras, several codecs and a seeded prior; open for reading."""
    spec = MaskSpec({"fc1": (13, 7), "empty": (0, 3), "scalar": (), "fc2": (5, 13)})
    rng = np.random.default_rng(seed)
    with MaskBank.create(path, spec, meta={"seed": 7, "network": "example"}) as bank:
        for task in range(tasks):
            bank.put(
                f"{prefix}{task}",
                {name: rng.random(shape) < 0.3 for name, shape in spec.shapes.items()},
                meta={"accuracy": task / 10, "note": "é"},
                extras={"mean": rng.random(4).astype(np.float32), "n": np.int64(task)} if task % 2 else {},
                codec=("auto", "raw", "zstd", "ans")[task % 4],
                prior=SeededScores(7, task) if task % 2 else None,
            )
    return MaskBank.open(path)
