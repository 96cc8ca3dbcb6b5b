"""`OwnMasks`: the masks of a batch in which each image has its own, and a layer's product with each of them.

The products are taken from the packed bits (`maskstore.kernels`), so no mask is unpacked, and what an image gets does
not depend on the images beside it. They sum in another order than torch does: results agree up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

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
        found = matrix.interleaved.chosen_rows(np.asarray(rows, dtype=np.int64))
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
        found = kernels.load().masked_taps(
            self.rows, self.chosen, self._first_bit(layer), weights.numpy(), lines.numpy(), places, prod(inner)
        )
        return torch.from_numpy(found).mT.reshape(len(values), *inner, -1)

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
        plan = _plan(*(tuple(each) for each in (weights.shape, values.shape[2:], stride, padding, dilation)), groups)
        found = kernels.load().masked_taps(
            *(self.rows, self.chosen, self._first_bit(layer), weights.flatten(1).numpy(), values.flatten(1).numpy()),
            *(plan.places, plan.length, plan.laid, plan.kept),
        )
        return torch.from_numpy(found).view(len(values), len(weights), *plan.outputs)

    def _first_bit(self, layer: int) -> int:
        return 64 * self.spec.layers[layer].word_start


class _Plan(NamedTuple):
    """How a convolution of one shape is computed: the arguments of `masked_taps`, and the shape of what comes out."""

    places: NDArray[np.int64]
    length: int
    laid: NDArray[np.int64]
    kept: NDArray[np.int64]
    outputs: tuple[int, ...]


@lru_cache(maxsize=256)
def _plan(
    shape: tuple[int, ...],
    inputs: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> _Plan:
    """That of weights `(o, c / groups, ...)` over channels of shape `inputs`."""
    reach = [step * (taps - 1) + 1 for step, taps in zip(dilation, shape[2:], strict=True)]
    sizes = [size + sum(pad) for size, pad in zip(inputs, padding, strict=True)]
    outputs = [(size - span) // step + 1 for size, span, step in zip(sizes, reach, stride, strict=True)]
    if min(outputs) < 1:
        raise RuntimeError(f"images: expected {tuple(reach)} places or more, found {tuple(sizes)}")
    # a plane for each remainder by the strides: then the places that a tap meets lie side by side
    steps = [-(-size // step) for size, step in zip(sizes, stride, strict=True)]
    laid = []
    for number, phase in enumerate(product(*map(range, stride))):
        from_at = [_line(*each) for each in zip(phase, stride, padding, inputs, strict=True)]
        first, step, at, count = from_at[-1]
        for outer in product(*(range(each[3]) for each in from_at[:-1])):
            start, to = 0, number
            for index, (begin, gap, place, _), size, places in zip(outer, from_at, inputs, steps, strict=False):
                start, to = start * size + begin + index * gap, to * places + place + index
            laid.append((start * inputs[-1] + first, step, to * steps[-1] + at, count))
    runs = np.array(laid, dtype=np.int64).reshape(-1, 4)
    channels = np.arange(groups * shape[1])[:, None, None]
    by_channel = channels * np.array([prod(inputs), 0, prod(stride) * prod(steps), 0])
    inner = prod(steps[1:])
    starts = [0]
    for size, places in zip(outputs[:-1], steps[1:], strict=True):
        starts = [(start + index) * places for start in starts for index in range(size)]
    kept = [(start, number * outputs[-1], outputs[-1]) for number, start in enumerate(starts)]
    if outputs[1:] == steps[1:]:  # nothing lies between the lines
        kept = [(0, 0, outputs[0] * inner)]
    return _Plan(
        _places(shape, stride, dilation, steps, groups),
        outputs[0] * inner,
        (runs[runs[:, 3] > 0] + by_channel).reshape(-1, 4),
        np.array(kept, dtype=np.int64),
        tuple(outputs),
    )


def _line(phase: int, step: int, padding: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Which places of a dimension lie in the plane of a remainder: the first, their step, where they lie, how many."""
    before = padding[0]
    first = (phase - before) % step  # the first place whose padded number leaves this remainder
    return first, step, (first + before) // step, max(0, -(-(size - first) // step))


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
