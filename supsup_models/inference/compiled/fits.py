"""The compiled forward and backward pass (`kernels/derivatives.py`) in tensors, and which networks take it."""

from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore.kernels import has_lookup
from supsup_models.errors import ShapeError
from supsup_models.inference.objectives import Entropy, Objective, Superfluous
from supsup_models.networks import MaskedModel, MaskedNetwork, MultilayerPerceptron


def fits(model: MaskedModel, flat_weights: Tensor, images: Tensor) -> TypeGuard[MaskedNetwork]:
    """Whether the compiled passes compute what `model.run_layers` does for these tensors, and are the faster way.

    They know `MaskedNetwork` and `MultilayerPerceptron` themselves, no subclass, which may run otherwise; float32 on a
    CPU with AVX-512; and at least one image, in the network's shape.
    """
    return (
        type(model) is MaskedNetwork
        and type(model.architecture) is MultilayerPerceptron
        and all(map(_is_plain, (model.weights, flat_weights, images)))
        and flat_weights.shape == model.weights.shape
        and images.ndim == 2
        and images.shape[1] == model.inputs
        and len(images) > 0
        and has_lookup()
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is float32 on the host, laid out by strides."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.layout == torch.strided


def mask_derivatives(
    model: MaskedNetwork, flat_weights: Tensor, images: Tensor, objective: Objective
) -> tuple[Tensor, bool]:
    """`superposition.mask_derivatives` for what `fits`: a fresh tensor, and whether all of it are numbers.

    ShapeError where an objective's gradient is not of the logits' shape.
    """
    from supsup_models.inference.compiled import (
        derivatives,  # only here: Numba takes a second to load
        perceptron,
    )

    def logits_gradient(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        found = torch.as_tensor(objective.gradient(torch.from_numpy(logits)))
        if found.shape != logits.shape:
            raise ShapeError(f"gradient of {objective}: expected shape {logits.shape}, found {tuple(found.shape)}")
        gradient: NDArray[np.float32] = found.detach().float().cpu().numpy()
        return gradient

    known: tuple[int, int] | None = None
    if type(objective) is Entropy:
        known = perceptron.ENTROPY, 0
    elif type(objective) is Superfluous:
        known = perceptron.SUPERFLUOUS, objective.classes
    found, are_numbers = derivatives.mask_derivatives(
        _array(images),
        (model.inputs, *(layer.shape[0] for layer in model.layers)),
        _array(flat_weights),
        _array(model.weights),
        known or logits_gradient,
    )
    return torch.from_numpy(found), are_numbers


def warm() -> None:
    """Compile the passes, or load them from the cache, where they are used at all."""
    if has_lookup():
        model = MaskedNetwork(MultilayerPerceptron("warm", (2,)), inputs=2, outputs=2, seed=0)
        mask_derivatives(model, model.weights, torch.zeros(1, 2), Entropy())


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.contiguous().numpy(force=True)
    return array
