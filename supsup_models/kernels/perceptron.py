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
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from time import sleep
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from maskstore.kernels import sharing
from maskstore.kernels.vectors import LANES, LINE
from supsup_models.kernels.team import all_done, done, new_board, take
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
ENTROPY, SUPERFLUOUS, OTHER = range(3)  # objectives

_FORWARD, _OBJECTIVE, _BACKWARD, _GRADIENT = range(4)  # stages; the caller alone does the second
_PATIENCE = 20_000  # looks at the board before a thread does something else: some 400 microseconds
_NOW_AND_THEN = 1e-4  # seconds

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
def _forward(images, sizes, weights, activations, stride, panel, first, last):
    """All layers' outputs, transposed, of images first <= b < last."""
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


@njit(cache=True, nogil=True)
def _backward(sizes, weights, activations, deltas, stride, first, last):
    """The derivatives by all layers' outputs, transposed, of images first <= b < last, from those by the logits,
    which lie in place already.
    """
    layers = sizes.size - 1
    for block in range(first, last, _IMAGES):
        here = min(_IMAGES, last - block)
        width = -(-here // LANES) * LANES
        weights_at, at = weights.size, block + sizes[1:layers].sum() * stride
        for layer in range(layers - 1, 0, -1):
            of, to = sizes[layer], sizes[layer + 1]
            weights_at -= of * to
            _product(
                weights, weights_at, 1, of, of, deltas, at, stride, to, width,
                deltas, at - of * stride, stride, activations, GATE, 0, deltas,
            )  # fmt: skip
            at -= of * stride


@njit(cache=True, nogil=True)
def _derive(objective, real, count, logits_at, activations, outputs, stride, deltas, first, last):
    """The derivatives of the mean cost of `count` images by the logits of images first <= b < last."""
    scale = np.float32(1.0) / np.float32(count)
    for block in range(first, last, _IMAGES):
        width = -(-min(_IMAGES, last - block) // LANES) * LANES
        at = logits_at + block
        z, found = activations[at:], deltas[at:]
        top = np.full(width, -np.inf, dtype=np.float32)
        total, entropy = np.zeros(width, dtype=np.float32), np.zeros(width, dtype=np.float32)
        for o in range(outputs):
            for i in range(width):
                top[i] = max(top[i], z[o * stride + i])
        for o in range(outputs):
            for i in range(width):
                found[o * stride + i] = np.exp(z[o * stride + i] - top[i])
                total[i] += found[o * stride + i]
        log_total = np.log(total)
        if objective == ENTROPY:
            for o in range(outputs):
                for i in range(width):
                    p = found[o * stride + i] / total[i]
                    entropy[i] -= p * (z[o * stride + i] - top[i] - log_total[i])
        for o in range(outputs):
            for i in range(width):
                p = found[o * stride + i] / total[i]
                if objective == ENTROPY:
                    log_p = z[o * stride + i] - top[i] - log_total[i]
                    found[o * stride + i] = -p * (log_p + entropy[i]) * scale
                else:
                    found[o * stride + i] = p * scale if o >= real else np.float32(0.0)


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


@njit(cache=True, nogil=True)
def _work(
    board, pieces, first_stage, last_stage, patience, objective, real, images, sizes, weights, frozen, batches, strips,
    activations, deltas, stride, panels, watch, out,
):  # fmt: skip
    """Help with stages first_stage <= s <= last_stage until all of the last one is done; False if patience ran out.

    Called again it goes on where the work is.
    """
    room, count, layers = panels.size // panels.shape[0], images.shape[0], sizes.size - 1
    flat, at = images.reshape(-1), stride * sizes[1:layers].sum()
    for stage in range(first_stage, last_stage + 1):
        if stage > 0 and not all_done(board, stage - 1, pieces[stage - 1], patience):
            return False
        while stage != _OBJECTIVE:
            piece = take(board, stage)
            if piece >= pieces[stage]:
                break
            if stage == _FORWARD:
                first, last = batches[piece]
                _forward(flat, sizes, weights, activations, stride, panels[piece], first, last)
                if objective != OTHER:
                    _derive(objective, real, count, at, activations, sizes[layers], stride, deltas, first, last)
                    _backward(sizes, weights, activations, deltas, stride, first, last)
            elif stage == _BACKWARD:
                first, last = batches[piece]
                _backward(sizes, weights, activations, deltas, stride, first, last)
            else:
                layer, first, last = strips[piece]
                _gradient(
                    flat, sizes, frozen, activations, deltas, stride, count, panels[piece], out, watch[piece],
                    layer, first, last,
                )  # fmt: skip
            done(board, stage)
    return all_done(board, last_stage, pieces[last_stage], patience)


def mask_derivatives(
    images: Floats, sizes: tuple[int, ...], weights: Floats, frozen: Floats, objective: LogitsGradient | tuple[int, int]
) -> tuple[Floats, bool]:
    """dL/d(effective weights) * frozen weights, flat, of a batch's cost L, and whether all of it are numbers (no NaN).

    `images` `(b, inputs)`, b >= 1; `sizes` = (inputs, hidden..., outputs); `weights` (the effective ones), `frozen` and
    the result hold all layers' `(out, in)` matrices one after the other, flat; all float32 and contiguous.
    `objective` is ENTROPY or SUPERFLUOUS and the number of real outputs, or a function that is called once, by the
    caller's thread, with fresh logits whose columns are contiguous.
    """
    plan = _plan(sizes, len(images), sharing.CORES)
    out = np.empty_like(weights)
    watch = np.zeros((len(plan.strips), LANES), dtype=np.float32)
    compiled, derive = ((OTHER, 0), objective) if callable(objective) else (objective, None)
    # between the passes: a stage of the caller's alone, and what of the backward pass could not be done before
    between = 0 if derive is None else 1
    pieces = np.array([len(plan.batches), between, between * len(plan.batches), len(plan.strips)])
    board = new_board(len(pieces))
    finished = False
    helping: list[Future[None]] = []
    with _scratch(plan.scratch) as scratch:
        activations, deltas = scratch[: plan.rows], scratch[plan.rows : 2 * plan.rows]
        panels = scratch[2 * plan.rows : plan.scratch].reshape(-1, plan.room)
        arrays = (
            *compiled, images, plan.sizes, weights, frozen, plan.batches, plan.strips,
            activations, deltas, plan.stride, panels, watch, out,
        )  # fmt: skip

        def help_out() -> None:
            patience = _PATIENCE
            while not (finished or _work(board, pieces, _FORWARD, _GRADIENT, patience, *arrays)):
                patience = 1  # somebody thinks long about the logits: look now and then
                sleep(_NOW_AND_THEN)

        def go_on(first: int, last: int) -> None:
            while not _work(board, pieces, first, last, _PATIENCE, *arrays):
                sleep(0)  # a helper has been interrupted, perhaps for this thread

        try:
            sharing.ask_for_help(help_out, sharing.threads_for(weights.size * len(images) // _ADDS_A_WORD) - 1, helping)
            if derive is not None:
                go_on(_FORWARD, _FORWARD)
                logits, found = (
                    array.reshape(-1, plan.stride)[-sizes[-1] :, : len(images)] for array in (activations, deltas)
                )
                found[:] = derive(logits.copy().T).T
                done(board, _OBJECTIVE)
                go_on(_BACKWARD, _GRADIENT)
            else:
                go_on(_FORWARD, _GRADIENT)
            finished = True  # and helpers, that may be slow to notice, touch nothing but the board any more
        finally:
            interrupted, finished = not finished, True
            sharing.dismiss(helping, wait=interrupted)
    return out, not np.isnan(watch).any()


class _Plan(NamedTuple):
    """How a batch is cut and where things lie; all that does not depend on its values."""

    sizes: NDArray[np.int64]
    batches: NDArray[np.int64]  # (pieces, 2): ranges of images
    strips: NDArray[np.int64]  # (pieces, 3): a layer and a range of its inputs
    stride: int  # values from one neuron's activations to the next's
    rows: int  # values of all activations
    room: int  # values of the panel that a piece of work has
    scratch: int  # values of everything


@lru_cache(maxsize=64)
def _plan(sizes: tuple[int, ...], count: int, cores: int) -> _Plan:
    # an odd number of lines from row to row: a power of two would have a column's values share a set of the cache
    stride = (-(-count // LINE) | 1) * LINE
    batches, strips = _image_pieces(count, cores), _strip_pieces(sizes)
    rows = sum(sizes[1:]) * stride
    room = max(_padded(sizes[0]) * _IMAGES, min(_padded(count), _STEPS) * WIDTH)
    scratch = 2 * rows + max(len(batches), len(strips)) * room
    return _Plan(np.array(sizes), np.array(batches), np.array(strips), stride, rows, room, scratch)


def _padded(count: int) -> int:
    return -(-count // LANES) * LANES


def _image_pieces(count: int, cores: int) -> list[tuple[int, int]]:
    """The batch cut for the cores, in whole vectors."""
    step = _IMAGES if count >= _IMAGES * cores else LANES
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
