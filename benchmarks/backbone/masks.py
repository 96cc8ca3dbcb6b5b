"""The mask's side of the comparison: tasks trained on the backbone, kept in one bank, and found again without names."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from torch import Tensor

from benchmarks.backbone.methods import BATCH
from benchmarks.backbone.tasks import CLASSES, SIDE, BackboneTask, backbone
from maskstore import KeptWeights, MaskBank, Rounded
from maskstore.bank import encode_extras
from maskstore.codecs import encode_mask, size_of
from maskstore.priors import Prior, Uniform
from supsup_models import RECIPES, Kept, mask_accuracy, train_task
from supsup_models import convert as convert_module
from supsup_models.networks.convert import ConvertedModel

STEPS_OF_ROUNDING = 15
"""Rounded extras have so many steps on either side of zero: about five bits a number, before they are compressed."""


@dataclass(frozen=True)
class Shown:
    """Images of a task as training and evaluation take them, made when they are asked for."""

    task: BackboneTask
    pixels: Tensor
    labels: Tensor

    def images(self, rows: Tensor | slice) -> Tensor:
        return self.task.batch(self.pixels[rows]).flatten(1)

    def to(self, device: torch.device) -> "Shown":
        return self


def model_of_backbone() -> ConvertedModel:
    """The backbone with heads and normalisation of each task's own."""
    shape = (3, SIDE, SIDE)
    return convert_module(backbone(), weights="keep", head="_fc", own="norm", image_shape=shape, classes=CLASSES)


def rounded(extras: dict[str, np.ndarray], steps: int = STEPS_OF_ROUNDING) -> dict[str, Rounded]:
    """Extras with a bounded error: that of each array is its largest value divided by twice the steps."""
    return {name: Rounded(value, max(float(np.abs(value).max()), 1e-6) / (2 * steps)) for name, value in extras.items()}


def payload_bits(model: ConvertedModel, mask: object, prior: Prior) -> float:
    """Bits of a coded mask, side information included, by the quick codecs."""
    return 8.0 * size_of(encode_mask("auto", mask, prior)[1])  # type: ignore[arg-type]


def train_mask(
    model: ConvertedModel, task: BackboneTask, bank: MaskBank, *, kept: Kept, rate: float, steps: int
) -> dict[str, float]:
    """Train a task's mask and put it into the bank, rounded; what it costs and how good it is as it comes back."""
    recipe = replace(RECIPES["backbone"], batch_size=BATCH, kept=kept)
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, learning_rate=rate))
    began = process_time()
    trained = train_task(model, Shown(task, task.images, task.labels), recipe, task=task.number, steps=steps)
    seconds = process_time() - began
    known = KeptWeights(model.backbone())
    extras = rounded(dict(trained.extras))
    bank.put(task.name, trained.mask, extras=extras, prior=known, overwrite=True)
    test = Shown(task, task.test_images, task.test_labels)
    info = bank.info(task.name)
    uniform, with_weights = (payload_bits(model, trained.mask, prior) for prior in (Uniform(), known))
    return {
        "accuracy": mask_accuracy(model, bank[task.name], test, bank.extras(task.name)),
        "unrounded": mask_accuracy(model, trained.mask, test, trained.extras),
        "mask_bytes": float(info.coded_bytes),
        "extras_bytes": float(len(encode_extras(extras))),
        "uniform_bits": uniform,
        "kept_bits": with_weights,
        "dropped": 1.0 - trained.mask.density,
        "seconds": seconds,
    }


def switch_seconds(model: ConvertedModel, bank: MaskBank, repeats: int = 20) -> float:
    """The median time from the name of a task to a model that runs it, from a bank that is open."""
    names, times = list(bank), []
    for turn in range(repeats):
        name = names[turn % len(names)]
        start = perf_counter()
        model.bind(bank[name], bank.extras(name))
        times.append(perf_counter() - start)
    return median(times)


def open_bank(path: Path, model: ConvertedModel) -> MaskBank:
    """The bank of a comparison, made if it is not there."""
    return MaskBank.create(path, model.spec, meta=model.bank_meta(), exist_ok=True, backbone=model.backbone())
