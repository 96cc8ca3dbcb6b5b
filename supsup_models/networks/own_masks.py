"""`OwnMasks`: the masks of a batch in which each image has its own, and a layer's product with each of them.

The products are taken from the packed bits (`maskstore.kernels`), so no mask is unpacked, and what an image gets does
not depend on the images beside it. They sum in another order than torch does: results agree up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from maskstore import Mask, MaskMatrix, MaskSpec, kernels


@dataclass(frozen=True, eq=False)
class OwnMasks:
    """m packed masks, and which of them each of b images has.

    Attributes:
        spec: The masks' layers.
        rows: Packed masks, `(m, spec.words)` uint64.
        chosen: The row of each image, `(b,)` int64.
    """

    spec: MaskSpec
    rows: NDArray[np.uint64]
    chosen: NDArray[np.int64]

    @classmethod
    def of(cls, spec: MaskSpec, masks: Sequence[Mask], chosen: ArrayLike) -> "OwnMasks":
        """Masks of one spec, and the number of the mask of each image."""
        rows = np.stack([mask.words for mask in masks]) if masks else np.empty((0, spec.words), dtype=np.uint64)
        return cls(spec, rows, np.asarray(chosen, dtype=np.int64))

    @classmethod
    def of_matrix(cls, matrix: MaskMatrix, rows: Sequence[int], chosen: ArrayLike) -> "OwnMasks":
        """Some rows of a matrix, and the number of the mask of each image among them."""
        masks = matrix.interleaved
        found = kernels.load().chosen_rows(masks.blocks, masks.tail, np.asarray(rows, dtype=np.int64))
        return cls(matrix.spec, found, np.asarray(chosen, dtype=np.int64))

    def mask(self, row: int) -> Mask:
        """One of the m masks."""
        return Mask(self.spec, self.rows[row])

    def some(self, images: NDArray[np.int64]) -> "OwnMasks":
        """The masks of some of the images."""
        return OwnMasks(self.spec, self.rows, self.chosen[images])

    def fits(self, values: Tensor, weights: Tensor) -> bool:
        """Whether the products below can be taken: one row of values an image, float32 on the CPU, no gradient."""
        return (
            values.shape[0] == len(self.chosen)
            and values.dtype == weights.dtype == torch.float32
            and values.device.type == weights.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and not (torch.is_grad_enabled() and (values.requires_grad or weights.requires_grad))
        )

    def linear(self, layer: int, weights: Tensor, values: Tensor) -> Tensor:
        """Each image's values `(b, ..., n)` through a linear layer of weights `(o, n)`: `(b, ..., o)`."""
        if values.ndim == 2:
            found = kernels.load().masked_lines(
                self.rows, self.chosen, self._first_bit(layer), weights.numpy(), values.numpy()
            )
            return torch.from_numpy(found)
        inner, n = values.shape[1:-1], values.shape[-1]
        lines = values.reshape(len(values), -1, n).mT.reshape(len(values), -1)  # all the values of an input together
        places = np.arange(n)[None] * prod(inner)
        return self._taps(layer, weights, lines, places, prod(inner)).mT.reshape(len(values), *inner, -1)

    def convolution(
        self,
        layer: int,
        weights: Tensor,
        values: Tensor,
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        """Each image's values `(b, c, ...)` through a convolution of weights `(o, c / groups, ...)`, in any dimensions.

        `padding` says how many zeros come before and after, for each dimension.
        """
        kernel = weights.shape[2:]
        reach = [step * (taps - 1) + 1 for step, taps in zip(dilation, kernel, strict=True)]
        sizes = [size + sum(pad) for size, pad in zip(values.shape[2:], padding, strict=True)]
        outputs = [(size - span) // step + 1 for size, span, step in zip(sizes, reach, stride, strict=True)]
        if min(outputs) < 1:
            raise RuntimeError(f"images: expected {tuple(reach)} places or more, found {tuple(sizes)}")
        # a plane for each remainder by the strides: then the places that a tap meets lie side by side
        steps = [-(-size // step) for size, step in zip(sizes, stride, strict=True)]
        places = _places(weights.shape, stride, dilation, steps, groups)
        batch, channels = values.shape[:2]
        planes = values.new_zeros(batch, channels * prod(stride) * prod(steps) + kernels.REACH)
        cut = planes[:, : planes.shape[1] - kernels.REACH].view(batch, channels, *stride, *steps)
        for phase in product(*map(range, stride)):
            of_values, of_plane = zip(*map(_lines, phase, stride, padding, values.shape[2:]), strict=True)
            cut[(slice(None), slice(None), *phase, *of_plane)] = values[(slice(None), slice(None), *of_values)]
        inner = prod(steps[1:])
        found = self._taps(layer, weights.flatten(1), planes, places, outputs[0] * inner)
        result = found.reshape(len(values), len(weights), outputs[0], *steps[1:])
        for dim, size in enumerate(outputs[1:], start=3):
            result = result.narrow(dim, 0, size)
        return result

    def _taps(self, layer: int, weights: Tensor, values: Tensor, places: NDArray[np.int64], length: int) -> Tensor:
        found = kernels.load().masked_taps(
            self.rows, self.chosen, self._first_bit(layer), weights.numpy(), values.numpy(), places, length
        )
        return torch.from_numpy(found)

    def _first_bit(self, layer: int) -> int:
        return 64 * self.spec.layers[layer].word_start


def _lines(phase: int, step: int, padding: tuple[int, int], size: int) -> tuple[slice, slice]:
    """Which places of one dimension lie in the plane of a remainder, and where they lie there."""
    before = padding[0]
    first = (phase - before) % step  # the first place whose padded number leaves this remainder
    count = max(0, -(-(size - first) // step))
    at = (first + before) // step
    return slice(first, first + count * step, step), slice(at, at + count)


def _places(
    shape: Sequence[int], stride: Sequence[int], dilation: Sequence[int], steps: Sequence[int], groups: int
) -> NDArray[np.int64]:
    """Where each tap of weights `(o, c, ...)` meets the first place, by group: `(groups, c * taps)`."""
    channels, kernel = shape[1], shape[2:]
    place = np.zeros((1, *kernel), dtype=np.int64)
    plane = np.zeros((1, *kernel), dtype=np.int64)
    for dim, (taps, step, gap, count) in enumerate(zip(kernel, stride, dilation, steps, strict=True), start=1):
        at = (np.arange(taps) * gap).reshape(-1, *[1] * (len(kernel) - dim))
        plane = plane * step + at % step
        place = place * count + at // step
    of_channel = np.arange(groups * channels).reshape(-1, *[1] * len(kernel)) * prod(stride) + plane
    return (of_channel * prod(steps) + place).reshape(groups, -1)
