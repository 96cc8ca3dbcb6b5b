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
    model: ConvertedModel, mask: AnyMask, path: str | os.PathLike[str], example: Any, extras: Extras = None
) -> None:
    """Write `model.export(mask, extras)`, in evaluation mode, for inputs of the shape of the tensor `example`.

    Raises ExportError, which says what to install, if a package is missing.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX export: expected onnx and onnxscript, found no {missing[0]}; pip install onnx onnxscript gets them"
        )
    module = model.export(mask, extras).eval()
    with torch.no_grad():
        torch.onnx.export(module, (example,), Path(path), dynamo=True, external_data=False, verbose=False)
