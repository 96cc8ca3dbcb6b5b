"""Whatever a caller has for an array, as numpy has it: lists, any torch tensor, arrays of types that numpy lacks."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import MaskValueError


def as_numpy(value: Any, what: str) -> NDArray[Any]:
    """A numpy array of the same shape and values.

    Floats of types that numpy lacks, such as bfloat16, become float32, which holds each of their values. Of a torch
    tensor, gradients and the device do not matter, and a sparse one is filled up with zeros.

    Args:
        value: An array, a tensor, a number, or nested sequences of numbers.
        what: What it is, for errors.

    Raises:
        MaskValueError: Nothing that could be such an array, and tensors that hold no values, as on the device "meta".

    Examples:
        >>> import torch
        >>> from maskstore.files import as_numpy
        >>> as_numpy(torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)), "mask")
        array([1., 1.], dtype=float32)
    """
    torch = sys.modules.get("torch")  # nobody can have a tensor before torch was imported
    if torch is not None and isinstance(value, torch.Tensor):
        return _of_tensor(value, what)
    try:
        array = np.asarray(value)
        if array.dtype.kind == "V" and array.dtype.names is None and array.dtype.name.strip("_0123456789") != "void":
            array = array.astype(np.float32)  # JAX's bfloat16 and its like
    except Exception:  # ragged lists, and objects whose own conversion fails, raise whatever they like
        kind = type(value).__name__
        raise MaskValueError(f"{what}: expected an array of numbers, found {kind} that is none") from None
    return array


def _of_tensor(tensor: Any, what: str) -> NDArray[Any]:
    if tensor.is_quantized or tensor.device.type == "meta":
        holding = "quantized values" if tensor.is_quantized else "no values (device meta)"
        raise MaskValueError(f"{what}: expected a tensor of numbers, found one of {holding}")
    try:
        plain = tensor.detach().to_dense().cpu().resolve_conj().resolve_neg()
        if plain.dtype.is_floating_point and plain.dtype.itemsize <= 2 and str(plain.dtype) != "torch.float16":
            plain = plain.float()
        return np.asarray(plain.numpy())
    except (RuntimeError, TypeError, NotImplementedError):
        found = f"one of {tensor.dtype} on {tensor.device.type}"
        raise MaskValueError(f"{what}: expected a tensor that numpy can hold, found {found}") from None
