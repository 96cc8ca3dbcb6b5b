"""Forward and backward pass of a perceptron (linear layers, ReLU between them) for one batch, and the gradient's product
with the frozen weights: float32, for processors with AVX-512.

A batch of a hundred images takes half a millisecond of arithmetic; what torch adds to that (an autograd graph, fresh
megabytes whose pages fault in, threads woken for every operation) takes thrice as long. Here a stage is one call of a
compiled function for each piece of work, and activations lie in memory that is kept between calls.

Activations and deltas (the cost's derivatives by each layer's output) are kept transposed, neurons x images, so that
images fill the vectors whatever the layers' sizes. Layers are chained for a block of images at a time, whose activations
stay in the nearer caches; the gradient is taken for a strip of inputs at a time, by all neurons. Any cut gives the same
bits (`tiles.py`).
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.kernels import sharing
from maskstore.kernels.vectors import LANES, LINE
from supsup_models.kernels.tiles import (
    FEW_ROWS,
    GATE,
    KEEP,
    RELU,
    ROWS,
    SCALE,
    WIDTH,
    copy_vector,
    low_narrow_tile,
    low_tile,
    narrow_tile,
    tile,
    turn_square,
)

Floats = NDArray[np.float32]
LogitsGradient = Callable[[Floats], Floats]
"""The derivative of a batch's cost by its logits, both `(b, outputs)` float32."""

_IMAGES = 32  # images whose activations go through all layers together
_STEPS = 512  # images that a strip of the gradient is summed over at a time: 64 KiB of inputs
_ADDS_A_WORD = 200  # multiply-adds that take as long as the masked add of a word, in which `shared` counts


@njit(cache=True, nogil=True)
def _product(
    scalars, at, row_stride, step_stride, rows,
    values, values_at, values_stride, steps, width,
    out, out_at, out_stride, other, finish, resume, watch,
):  # fmt: skip
    """out[r, v] = finish(sum over t of scalars[r, t] * values[t, v]) for r < rows, v < width, t < steps.

    All arrays are flat: row r and step t of the scalars are at `at + r * row_stride + t * step_stride`. `values` is
    read in whole vectors, `out` and `other` only where v < width. Only SCALE uses `watch`.
    """
    row = 0
    while row < rows:
        here = min(rows - row, ROWS)
        if here < ROWS:
            here = min(here, FEW_ROWS)
        left = at + row * row_stride
        for v in range(0, width, WIDTH):
            right, place = values_at + v, out_at + row * out_stride + v
            rest = width - v
            if rest > LANES:
                lanes = min(rest, WIDTH) - LANES
                if here == ROWS:
                    tile(
                        scalars, left, row_stride, step_stride, here, values, right, values_stride, steps,
                        out, place, out_stride, other, finish, resume, lanes, watch,
                    )  # fmt: skip
                else:
                    low_tile(
                        scalars, left, row_stride, step_stride, here, values, right, values_stride, steps,
                        out, place, out_stride, other, finish, resume, lanes, watch,
                    )  # fmt: skip
            elif here == ROWS:
                narrow_tile(
                    scalars, left, row_stride, step_stride, here, values, right, values_stride, steps,
                    out, place, out_stride, other, finish, resume, rest, watch,
                )  # fmt: skip
            else:
                low_narrow_tile(
                    scalars, left, row_stride, step_stride, here, values, right, values_stride, steps,
                    out, place, out_stride, other, finish, resume, rest, watch,
                )  # fmt: skip
        row += here


@njit(cache=True, nogil=True)
def _turn(source, at, stride, rows, columns, target, target_at, target_stride):
    """target[target_at + c * target_stride + r] = source[at + r * stride + c]; whole squares of 16 are written."""
    for r in range(0, rows, LANES):
        for c in range(0, columns, LANES):
            turn_square(
                source, at + r * stride + c, stride, min(LANES, rows - r), min(LANES, columns - c),
                target, target_at + c * target_stride + r, target_stride,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _forward(images, sizes, weights, activations, stride, panel, logits, logits_stride, first, last):
    """All layers' outputs of images first <= b < last, in `activations` transposed, the last layer's in `logits` too."""
    layers = sizes.size - 1
    for block in range(first, last, _IMAGES):
        here = min(_IMAGES, last - block)
        width = -(-here // LANES) * LANES
        _turn(images, block * sizes[0], sizes[0], here, sizes[0], panel, 0, _IMAGES)
        weights_at, in_at, out_at = 0, 0, block
        for layer in range(layers):
            of, to = sizes[layer], sizes[layer + 1]
            finish = RELU if layer < layers - 1 else KEEP
            if layer == 0:
                _product(
                    weights, 0, of, 1, to, panel, 0, _IMAGES, of, width,
                    activations, out_at, stride, activations, finish, 0, panel,
                )  # fmt: skip
            else:
                _product(
                    weights, weights_at, of, 1, to, activations, in_at, stride, of, width,
                    activations, out_at, stride, activations, finish, 0, panel,
                )  # fmt: skip
            weights_at += of * to
            in_at = out_at
            out_at += to * stride
        _turn(activations, in_at, stride, sizes[layers], width, logits, block * logits_stride, logits_stride)


@njit(cache=True, nogil=True)
def _backward(gradient, sizes, weights, activations, deltas, stride, first, last):
    """The derivatives by all layers' outputs, transposed, of images first <= b < last, from those by the logits."""
    layers = sizes.size - 1
    for block in range(first, last, _IMAGES):
        here = min(_IMAGES, last - block)
        width = -(-here // LANES) * LANES
        outputs = sizes[layers]
        at = block + sizes[1:layers].sum() * stride
        _turn(gradient, block * outputs, outputs, here, outputs, deltas, at, stride)
        weights_at = weights.size
        for layer in range(layers - 1, 0, -1):
            of, to = sizes[layer], sizes[layer + 1]
            weights_at -= of * to
            _product(
                weights, weights_at, 1, of, of, deltas, at, stride, to, width,
                deltas, at - of * stride, stride, activations, GATE, 0, deltas,
            )  # fmt: skip
            at -= of * stride


@njit(cache=True, nogil=True)
def _gradient(images, sizes, frozen, activations, deltas, stride, count, panel, out, watch, layer, first, last):
    """out = the derivative by the mask's bits for inputs first <= i < last of a layer, summed over `count` images.

    One of the 16 values of `watch` becomes NaN where one of `out` is.
    """
    of, to = sizes[layer], sizes[layer + 1]
    weights_at = (sizes[:layer] * sizes[1 : layer + 1]).sum()
    delta_at = sizes[1 : layer + 1].sum() * stride
    input_at = delta_at - of * stride
    for strip in range(first, last, WIDTH):
        width = min(WIDTH, last - strip)
        for image in range(0, count, _STEPS):
            steps = min(_STEPS, count - image)
            if layer == 0:
                for step in range(steps):
                    at = (image + step) * of + strip
                    for v in range(0, width, LANES):
                        copy_vector(images, at + v, min(LANES, width - v), panel, step * WIDTH + v)
            else:
                _turn(activations, input_at + strip * stride + image, stride, width, steps, panel, 0, WIDTH)
            finish = SCALE if image + steps == count else KEEP
            _product(
                deltas, delta_at + image, stride, 1, to, panel, 0, WIDTH, steps, width,
                out, weights_at + strip, of, frozen, finish, int(image > 0), watch,
            )  # fmt: skip


def mask_derivatives(
    images: Floats, sizes: tuple[int, ...], weights: Floats, frozen: Floats, logits_gradient: LogitsGradient
) -> tuple[Floats, bool]:
    """dL/d(effective weights) * frozen weights, flat, of a batch's cost L, and whether all of it are numbers (no NaN).

    `images` `(b, inputs)`, b >= 1; `sizes` = (inputs, hidden..., outputs); `weights` (the effective ones), `frozen` and
    the result hold all layers' `(out, in)` matrices one after the other, flat; all float32 and contiguous.
    `logits_gradient` is called once, with fresh logits.
    """
    count = len(images)
    rows = sum(sizes[1:])
    # an odd number of lines from row to row: a power of two would have a column's values share a set of the cache
    stride = (-(-count // LINE) | 1) * LINE
    batches = _image_pieces(count)
    strips = _strip_pieces(sizes)
    room = -(-sizes[0] // LANES) * LANES * _IMAGES
    strip_room = min(-(-count // LANES) * LANES, _STEPS) * WIDTH
    with _scratch(2 * rows * stride + max(room * len(batches), strip_room * len(strips))) as scratch:
        activations, deltas, panels = np.split(scratch, [rows * stride, 2 * rows * stride])
        widths = np.array(sizes, dtype=np.int64)
        flat = images.reshape(-1)
        padded = -(-sizes[-1] // LANES) * LANES
        logits = np.empty((-(-count // LANES) * LANES, padded), dtype=np.float32)
        adds = weights.size * count
        sharing.shared(
            _forward,
            [
                (flat, widths, weights, activations, stride, panels[i * room :], logits.reshape(-1), padded, *piece)
                for i, piece in enumerate(batches)
            ],
            adds // _ADDS_A_WORD,
        )
        gradient = np.ascontiguousarray(logits_gradient(logits[:count, : sizes[-1]]), dtype=np.float32).reshape(-1)
        sharing.shared(
            _backward,
            [(gradient, widths, weights, activations, deltas, stride, *piece) for piece in batches],
            (adds - sizes[0] * sizes[1] * count) // _ADDS_A_WORD,
        )
        out = np.empty_like(weights)
        watch = np.zeros((len(strips), LANES), dtype=np.float32)
        sharing.shared(
            _gradient,
            [
                (flat, widths, frozen, activations, deltas, stride, count, panels[i * strip_room :], out, watch[i], *piece)
                for i, piece in enumerate(strips)
            ],
            adds // _ADDS_A_WORD,
        )
    return out, not np.isnan(watch).any()


def _image_pieces(count: int) -> list[tuple[int, int]]:
    """The batch cut for the cores, in whole vectors."""
    step = _IMAGES if count >= _IMAGES * sharing.CORES else LANES
    return sharing.ranges(count, sharing.pieces_for_cores(-(-count // step)), step)


def _strip_pieces(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Layers and ranges of their inputs, about as much work in each, for the cores."""
    total = sum(of * to for of, to in pairwise(sizes))
    pieces = []
    for layer, (of, to) in enumerate(pairwise(sizes)):
        share = -(-sharing.pieces_for_cores(1 << 30) * of * to // total)
        pieces += [(layer, first, last) for first, last in sharing.ranges(of, share, WIDTH)]
    return pieces


_SPARES = 2  # buffers that are kept between calls, of at most so many values each: more threads at once bring their own
_SPARE_VALUES = 1 << 22
_spare: deque[Floats] = deque(maxlen=_SPARES)  # its methods are atomic; a forked child has copies


@contextmanager
def _scratch(size: int) -> Iterator[Floats]:
    """An array of `size` values that start a line of the cache, for this caller alone while the context lasts."""
    try:
        buffer = _spare.pop()
    except IndexError:
        buffer = np.empty(0, dtype=np.float32)
    if len(buffer) < size + LINE:
        buffer = np.empty(size + LINE, dtype=np.float32)
    start = -buffer.ctypes.data // 4 % LINE
    yield buffer[start : start + size]
    if len(buffer) <= _SPARE_VALUES:
        _spare.append(buffer)
