"""Eight tasks on EfficientNet-Lite0, and the ways people keep them: `pytest benchmarks/ -k backbone -s --full`.

It needs the extra `bench` and the files of MNIST and Fashion-MNIST. Every training is kept in the folder that
`MASKSTORE_BACKBONE_RESULTS` names, so that a comparison goes on where it was interrupted. `--full` takes hours on two
cores. Without it, there is one task, and one step of the mask and of the linear probe.

Rates and budgets were chosen on tasks that are not among those reported (`TUNING`).
"""

import os
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from benchmarks.backbone.masks import model_of_backbone, open_bank, switch_seconds, train_mask
from benchmarks.backbone.methods import BATCH, METHODS, STEPS, TITLES, remembered, trained_once
from benchmarks.backbone.tasks import TASKS, backbone, open_task
from benchmarks.results import RESULTS
from benchmarks.storage.results import Results, Row
from maskstore import Mask, MaskMatrix
from supsup_models import Kept, convert, infer_each, infer_task

BUDGETS = (0.003, 0.01)
"""Shares of the weights that a mask may drop."""
RATE, SEED = 0.06, 0


def _cache() -> Path | None:
    named = os.environ.get("MASKSTORE_BACKBONE_RESULTS")
    if named is not None:
        Path(named).mkdir(parents=True, exist_ok=True)
    return None if named is None else Path(named)


def test_backbone_all_ones_is_the_network_itself() -> None:
    net = backbone()
    model = convert(net, weights="keep", own="norm")
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ones = Mask.from_flat(np.ones(model.spec.bits, dtype=bool), model.spec)
    unchanged = {name: torch.zeros_like(value) for name, value in model.final_extras(model.initial_extras()).items()}
    with torch.no_grad():
        for extras in (None, unchanged):
            assert torch.equal(model(images, ones, extras=extras), net(images))
            assert torch.equal(model.export(ones, extras)(images), net(images))


@pytest.mark.mnist
def test_backbone_comparison(full: bool, tmp_path: Path) -> None:
    tasks, methods, budgets = (TASKS, METHODS, BUDGETS) if full else (("digits",), ("probe",), BUDGETS[:1])
    steps = STEPS if full else 1
    cache = _cache() if full else None
    model, rows = model_of_backbone(), dict[str, Row]()
    for method in methods:
        found = [trained_once(cache, method, name, SEED, steps) for name in tasks]
        numbers = {"numbers": round(sum(one["bytes"] for one in found))}
        rows[method] = Row(
            TITLES[method], "baseline", numbers, len(tasks), model.spec.bits, accuracy=_mean(found, "accuracy")
        )
    for budget in budgets:
        with open_bank((cache or tmp_path) / f"drop-{budget}-{steps}.bank", model) as bank:
            found = []
            for name in tasks:
                work = partial(train_mask, model, open_task(name), bank, kept=Kept(budget), rate=RATE, steps=steps)
                found.append(remembered(cache, f"mask-{budget}-{name}-{steps}", work))
            known = {name: round(sum(one[f"{name}_bytes"] for one in found)) for name in ("mask", "extras")}
        size = bank.path.stat().st_size  # closed, so that its log is in it
        with open_bank(bank.path, model) as bank:
            alone, together = _found(model, bank, tasks)
            notes = {
                "found_alone": alone,
                "found_together": together,
                "found_alone_exhaustive": _found(model, bank, tasks, "exhaustive")[0],
                "saved_by_kept_weights": 1 - _mean(found, "kept_bits") / _mean(found, "uniform_bits"),
                "switch_ms": 1e3 * switch_seconds(model, bank),
            }
        parts = {**known, "file": size - sum(known.values())}
        title = f"masks that drop up to {100 * budget:g} %"
        rows[f"drop-{budget}"] = Row(
            title, "ours", parts, len(tasks), model.spec.bits, accuracy=_mean(found, "accuracy"), notes=notes
        )
    results = Results(RESULTS if full and cache else tmp_path, "backbone", tuple(rows))
    print(f"\n{len(tasks)} tasks, {steps} steps each")
    for name, row in rows.items():
        config = {"steps": steps, "batch": BATCH, "seed": SEED}
        results.put(name, config, row, "pytest benchmarks/ -k backbone --full")
        print(f"{row.title}: {row.to_json()['accuracy']:.1%}, {row.to_json()['bytes'] / len(tasks):,.0f} bytes a task, "
              f"{row.to_json()['bits_per_parameter']:.3f} bits a weight, {dict(row.notes)}")  # fmt: skip
        assert row.to_json()["bits_per_parameter"] < 33


def _mean(found: list[dict[str, float]], key: str) -> float:
    return mean(one[key] for one in found)


def _found(model, bank, names, method=None) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """How often inference finds the task of one image, and of 16."""
    matrix, extras = MaskMatrix(model.spec), {}
    for name in names:
        matrix.append(name, bank[name])
        extras[name] = bank.extras(name)
    alone, together = [], []
    for row, name in enumerate(names):
        task = open_task(name)
        images = task.batch(task.test_images[:48]).flatten(1)
        alone += (infer_each(model, matrix, images, extras=extras, method=method).tasks == row).tolist()
        parts = () if method == "exhaustive" else images.split(16)
        together += [infer_task(model, matrix, part, extras=extras, method=method).task == row for part in parts]
    return float(np.mean(alone)), float(np.mean(together or [np.nan]))
