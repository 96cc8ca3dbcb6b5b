"""One task of a converted network as an ONNX file. Needs the packages onnx and onnxscript, which nothing else does."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from supsup_models.errors import ExportError
from supsup_models.networks.base import AnyMask, Extras
from supsup_models.networks.convert.model import ConvertedModel


def export_onnx(
    model: ConvertedModel, mask: AnyMask, path: str | os.PathLike[str], example: Any, *, extras: Extras = None
) -> None:
    """Write one task as an ONNX file: `model.export(mask, extras)`, in evaluation mode.

    Args:
        model: what `convert` made.
        mask: the task's mask; None writes the full network.
        path: the file to write.
        example: a tensor of the shape that the file's inputs have.
        extras: the task's normalisation statistics, if its network has any.

    Raises:
        ExportError: without the packages onnx and onnxscript; it says what to install.

    Examples:
        >>> import tempfile, torch
        >>> from importlib.util import find_spec
        >>> from supsup_models import convert, export_onnx
        >>> model = convert(torch.nn.Sequential(torch.nn.Linear(64, 10)), image_shape=(64,))
        >>> mask = model.mask_of(model.initial_scores(task=0))
        >>> if find_spec("onnx") and find_spec("onnxscript"):
        ...     with tempfile.TemporaryDirectory() as folder:
        ...         export_onnx(model, mask, f"{folder}/task-0.onnx", torch.zeros(1, 64))
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX export: expected onnx and onnxscript, found no {missing[0]}; pip install onnx onnxscript gets them"
        )
    module = model.export(mask, extras).eval()
    with torch.no_grad():
        torch.onnx.export(module, (example,), Path(path), dynamo=True, external_data=False, verbose=False)
