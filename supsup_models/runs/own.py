"""What a run has from its Python caller, a network, a recipe, data: how it is known again when it is given again."""

import copy
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supsup_models.data import LabelledImages, TaskStream
from supsup_models.errors import RunError
from supsup_models.networks import ARCHITECTURES, MaskedModel, MaskedNetwork
from supsup_models.networks.convert import ConvertedModel
from supsup_models.runs.record import Own, RunRecord
from supsup_models.training import RECIPES, Recipe

_PROBES = 8
_ROUNDING = 0.03  # of the largest answer: half precision, summed in another order
_SAMPLE = 256  # images of each part of a task; the labels count all


def has_name(model: MaskedModel) -> bool:
    """Whether a run's record says all of a network: its name and its sizes."""
    return isinstance(model, MaskedNetwork) and ARCHITECTURES.get(model.architecture.name) == model.architecture


def network_digest(model: MaskedModel) -> str:
    """SHA-256 of all numbers of a network, and of what its bank says of it. The code of its module has no part."""
    how = asdict(model.conversion) if isinstance(model, ConvertedModel) else {}  # densities are in no number of it
    how = {name: value for name, value in how.items() if name not in ("head", "own") or value}  # as before there were
    digest = hashlib.sha256(json.dumps([model.bank_meta(), list(model.spec.shapes.items()), how]).encode())
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def network_answers(model: MaskedModel) -> tuple[float, ...] | None:
    """A few logits of the full network for fixed images: modules of the same numbers may compute with them differently.

    None where they are not finite, or differ from call to call.
    """
    probe = copy.deepcopy(model).eval()  # forward may write to its buffers
    images = torch.sin(torch.arange(_PROBES * model.inputs, dtype=torch.float64)).view(_PROBES, model.inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (probe.run_with(images.to(model.weights), model.weights) for _ in range(2))
    if not torch.equal(first, second) or not bool(first.isfinite().all()):
        return None
    return tuple(float(f"{value:.5g}") for value in first[:4, :4].reshape(-1).tolist())


def same_answers(asked: tuple[float, ...] | None, started: tuple[float, ...] | None) -> bool:
    """Whether answers differ by no more than rounding, which another machine or version of torch does differently."""
    if asked is None or started is None:
        return True
    one, other = np.array(asked), np.array(started)
    return one.shape == other.shape and bool(np.abs(one - other).max() <= _ROUNDING * np.abs(other).max())


def data_digests(stream: TaskStream) -> dict[str, str]:
    """For each task, the SHA-256 of its labels and of up to 256 images of each part, evenly spaced."""
    return {task.name: _digest(task.train, task.test) for task in stream}


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the record has it. Records of earlier versions lack the settings that came later, so these are left
    out where they are the usual ones."""
    content = {**asdict(recipe), "optimiser": {"name": type(recipe.optimiser).__name__, **asdict(recipe.optimiser)}}
    for name, usual in (("views", 1), ("view_share", Recipe.view_share), ("image_shape", None), ("kept", None)):
        if content[name] == usual:
            del content[name]
    if recipe.kept is not None and not recipe.kept.by_layer:
        del content["kept"]["by_layer"]
    if recipe.sparse is not None:
        for name in ("floor", "kept_density", "on_images"):
            if getattr(recipe.sparse, name) == getattr(type(recipe.sparse), name):
                del content["sparse"][name]
        made = recipe.sparse.outliers
        content["sparse"]["outliers"] = made if isinstance(made, str) else f"{type(made).__module__}.{made!r:.200}"
        if made == "fitting":
            del content["sparse"]["outliers"]
    return dict(json.loads(json.dumps(content)))


def own_recipe(recipe: Recipe) -> Mapping[str, Any] | None:
    """The recipe for the record; None where its name says all."""
    return None if RECIPES.get(recipe.name) == recipe else recipe_json(recipe)


def check_own_network(record: RunRecord, model: MaskedModel) -> None:
    """RunError unless a network is the one that a run was made with."""
    expected = None if record.own is None else record.own.network
    if (expected is None) != has_name(model) or (expected is not None and network_digest(model) != expected):
        raise RunError(
            f"run of {record.config.model}: expected the network that the run was made with, found another "
            f"{type(model).__name__}, or other weights, parameters or sizes"
        )
    if record.own is not None and record.own.answers and not same_answers(network_answers(model), record.own.answers):
        raise RunError(
            f"run of {record.config.model}: expected the network that the run was made with, found one of the same "
            "numbers that gives other answers; its layers or their order have changed"
        )


def check_own_data(record: RunRecord, stream: TaskStream) -> None:
    """RunError unless a stream has the tasks and images that a run was made with; it may have more tasks."""
    record.check_stream(stream)
    expected = None if record.own is None else record.own.data
    if expected is None:
        return
    for task in stream.named(expected):
        if _digest(task.train, task.test) != expected[task.name]:
            raise RunError(
                f"stream {stream.name}: expected the data that the run was made with, found other labels or images of "
                f"{task.name}"
            )


def check_same_own(folder: Path, asked: Own | None, started: Own | None) -> None:
    """RunError unless a run is given the network, recipe and data that it was started with; there may be more data."""
    asked, started = asked or Own(), started or Own()
    data = {name: digest for name, digest in (asked.data or {}).items() if name in (started.data or {})}
    known = {name: digest for name, digest in (started.data or {}).items() if name in data}
    wrong = [
        name
        for name, differs in (
            ("network", asked.network != started.network or not same_answers(asked.answers, started.answers)),
            ("recipe", asked.recipe != started.recipe),
            ("data", (asked.data is None) != (started.data is None) or data != known),
        )
        if differs
    ]
    if wrong:
        raise RunError(f"{folder}: expected what this run was started with, found another {' and '.join(wrong)}")


def _digest(*parts: LabelledImages) -> str:
    digest = hashlib.sha256()
    for part in parts:
        labels = np.ascontiguousarray(np.asarray(part.labels), dtype=np.int64)
        digest.update(f"{len(labels)};".encode() + labels.tobytes())
        rows = np.unique(np.linspace(0, max(0, len(labels) - 1), min(_SAMPLE, len(labels))).astype(np.int64))
        digest.update(np.ascontiguousarray(part.images(torch.from_numpy(rows)).numpy(), dtype=np.float32).tobytes())
    return digest.hexdigest()
