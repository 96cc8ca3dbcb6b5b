"""Calls of a network in training with the channels of images and kernels side by side at each place.

On the host torch trains convolutions in three quarters of the time or less when they are laid out so ("channels last").

oneDNN, which computes them, has a fault there (uxlfoundation/oneDNN, issue 6035): the gradient by the weights of a
strided 1 x 1 convolution of fewer channels than a vector register holds, 8 or 16, is written past its memory. Networks
with such a layer are not laid out so, and neither are modules that cannot be called so, because they ask for a `view`.
"""

import torch
from torch import Tensor, nn

from supsup_models.networks import Extras, MaskedModel

_VECTOR = 16  # float32 in the widest register


class ByPlace:
    """Calls a model, in training, as its `run_with` does. `extras` are such as it will be called with."""

    def __init__(self, model: MaskedModel, extras: Extras) -> None:
        self._model = model
        self._laid_out = _is_safe(model) and self._can_be_called(extras)

    def __call__(self, images: Tensor, flat_weights: Tensor, extras: Extras = None) -> Tensor:
        """Logits `(b, outputs)`; arguments and errors are those of `MaskedModel.run_with`."""
        call = self._call if self._laid_out else self._model.run_with
        return call(images, flat_weights, extras)

    def _call(self, images: Tensor, flat_weights: Tensor, extras: Extras) -> Tensor:
        assert self._model.image_shape is not None
        images = images.reshape(len(images), *self._model.image_shape).contiguous(memory_format=torch.channels_last)
        weights = [
            weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
            for weight in self._model.layer_weights(flat_weights)
        ]
        return self._model.run_layers(images, weights, extras)

    def _can_be_called(self, extras: Extras) -> bool:
        """Tried on two black images, outside of training, which changes no statistics."""
        weights = self._model.weights
        try:
            with torch.no_grad():
                self._call(weights.new_zeros(2, self._model.inputs), weights, extras or None)
        except Exception:  # whatever is wrong beside the layout, the call in training will say
            return False
        return True


def _is_safe(model: MaskedModel) -> bool:
    if model.device.type != "cpu" or model.image_shape is None or len(model.image_shape) != 3:
        return False
    return not any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels // layer.groups < _VECTOR
        for layer in model.modules()
    )
