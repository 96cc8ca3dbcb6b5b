"""One task of a network as an ONNX file. Needs the packages onnx and onnxscript, which nothing else does."""

import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._pytree import tree_map

from supsup_models.errors import ConversionError, ExportError
from supsup_models.networks.base import AnyMask, Extras


class Exportable(Protocol):
    """A network that gives one task as a plain module: a `MaskedNetwork`, or what `convert` makes."""

    def export(self, mask: AnyMask, extras: Extras = None) -> nn.Module:
        """The module."""


def export_onnx(
    model: Exportable,
    mask: AnyMask,
    path: str | os.PathLike[str],
    example: Any,
    *,
    extras: Extras = None,
    dynamic_batch: bool = True,
) -> None:
    """Write one task as an ONNX file: `model.export(mask, extras)`, in evaluation mode.

    Args:
        model: The network, a `MaskedNetwork` or what `convert` made.
        mask: The task's mask; None writes the full network.
        path: The file to write.
        example: A tensor of the shape that the file's input has, or a tuple of them for several inputs.
        extras: The task's normalisation statistics, if its network has any.
        dynamic_batch: Whether the file takes any number of images: the first size of the first input is then free, and
            so are those of the other inputs, where the network does not fix them. If not, all sizes are the example's.

    Raises:
        ExportError: Without the packages onnx and onnxscript; it says what to install.
        ConversionError: The module fixes the size of its batch, or ONNX cannot express it.

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
            f'ONNX export: expected onnx and onnxscript, found no {missing[0]}; pip install "maskstore[onnx]" gets them'
        )
    module = model.export(mask, extras).eval()
    inputs = tuple(example) if isinstance(example, tuple | list) else (example,)
    if not inputs or not isinstance(inputs[0], Tensor):
        found = type(inputs[0]).__name__ if inputs else "nothing"
        raise ConversionError(f"example: expected a tensor, or a tuple that begins with one, found {found}")
    dynamic: dict[str, Any] = {}
    if dynamic_batch:
        inputs = tree_map(_repeated, inputs) if inputs[0].shape[:1] == (1,) else inputs
        rest = (tree_map(lambda value: _free(value, Dim.AUTO), other) for other in inputs[1:])
        dynamic["dynamic_shapes"] = (_free(inputs[0], "batch"), *rest)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its dependencies
        try:
            program = torch.onnx.export(module, inputs, dynamo=True, verbose=False, **dynamic)
        except torch.onnx.OnnxExporterError as error:
            wanted, hint = "that ONNX can express", ""
            if dynamic_batch:
                wanted += " for any number of images"
                hint = "; `dynamic_batch=False` keeps the sizes of the example"
            raise ConversionError(
                f"ONNX export: expected a module {wanted}, found {type(module).__name__}, which it cannot{hint}"
            ) from error
        assert program is not None  # what dynamo=True means
        program.save(Path(path), external_data=False)


def _free(value: Any, size: Any) -> dict[int, Any] | None:
    """That the first size of a tensor is free; None for a value that has none."""
    return {0: size} if isinstance(value, Tensor) and value.ndim else None


def _repeated(value: Any) -> Any:
    """Two images for one, because the exporter takes a size of one for a constant."""
    return torch.cat([value, value]) if isinstance(value, Tensor) and value.shape[:1] == (1,) else value
