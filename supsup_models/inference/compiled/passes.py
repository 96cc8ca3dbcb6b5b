"""The compiled forward and backward pass (`derivatives.py`) in tensors, and which networks take it."""

from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supsup_models.inference.objectives import Entropy, Objective, Superfluous
from supsup_models.networks import MaskedModel, MaskedNetwork, MultilayerPerceptron


def fits(model: MaskedModel, flat_weights: Tensor, images: Tensor, objective: Objective) -> TypeGuard[MaskedNetwork]:
    """Whether the compiled passes compute what autograd does for these arguments.

    They know `MaskedNetwork`, `MultilayerPerceptron`, `Entropy` and `Superfluous` themselves, no subclass, which may
    compute otherwise; float32 on a CPU, which must have AVX-512 (`has_lookup`); and at least one image, in the
    network's shape.
    """
    return (
        type(model) is MaskedNetwork
        and type(model.architecture) is MultilayerPerceptron
        and type(objective) in (Entropy, Superfluous)
        and all(map(_is_plain, (model.weights, flat_weights, images)))
        and flat_weights.shape == model.weights.shape
        and images.ndim == 2
        and images.shape[1] == model.inputs
        and len(images) > 0
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is float32 on the host, laid out by strides."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.layout == torch.strided


def mask_derivatives(
    model: MaskedNetwork, flat_weights: Tensor, images: Tensor, objective: Objective
) -> tuple[Tensor, bool]:
    """`superposition.mask_derivatives` for what `fits`: a fresh tensor, and whether all of it are numbers."""
    from supsup_models.inference.compiled import derivatives, perceptron  # only here: Numba takes a second to load

    found, are_numbers = derivatives.mask_derivatives(
        _array(images),
        (model.inputs, *(layer.shape[0] for layer in model.spec)),
        _array(flat_weights),
        _array(model.weights),
        (perceptron.SUPERFLUOUS, objective.classes) if isinstance(objective, Superfluous) else (perceptron.ENTROPY, 0),
    )
    return torch.from_numpy(found), are_numbers


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.contiguous().numpy(force=True)
    return array
