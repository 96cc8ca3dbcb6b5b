"""A batch's derivative by every bit of a mask, from the images on: forward and backward pass and the gradient's product
with the frozen weights, on all cores; float32, for processors with AVX-512 (`maskstore.kernels.has_lookup`).

A batch of a hundred images takes half a millisecond of arithmetic on two cores; what torch adds to that (an autograd
graph, fresh megabytes whose pages fault in, threads woken for every operation) takes thrice as long. Here helpers are
woken once, activations lie in memory that is kept between calls, and no other thread is left spinning.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from time import sleep
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import LANES, LINE, threads
from supsup_models.inference.compiled.perceptron import IMAGES, STEPS, work
from supsup_models.inference.compiled.stages import STAGE
from supsup_models.inference.compiled.tile import WIDTH

Floats = NDArray[np.float32]

_PATIENCE = 20_000  # looks at the board before a thread does something else: some 400 microseconds
_NOW_AND_THEN = 1e-4  # seconds
_ADDS_A_WORD = 200  # multiply-adds that take as long as the masked add of a word, in which `threads_for` counts


def mask_derivatives(
    images: Floats, sizes: tuple[int, ...], weights: Floats, frozen: Floats, objective: tuple[int, int]
) -> tuple[Floats, bool]:
    """dL/d(effective weights) * frozen weights, flat, of a batch's cost L, and whether all of it are numbers (no NaN).

    `images` `(b, inputs)`, b >= 1; `sizes` = (inputs, hidden..., outputs); `weights` (the effective ones), `frozen` and
    the result hold all layers' `(out, in)` matrices one after the other, flat; all float32 and contiguous.
    `objective` is ENTROPY or SUPERFLUOUS and the number of real outputs.
    """
    plan = _plan(sizes, len(images), threads.CORES)
    out = np.empty_like(frozen)
    watch = np.zeros((len(plan.strips), LANES), dtype=np.float32)
    pieces = np.array([len(plan.batches), len(plan.strips)])
    board = np.zeros(len(pieces) * STAGE, dtype=np.int64)  # nothing is taken yet, nothing is done
    finished = False
    with _scratch(plan.scratch) as scratch:
        activations, deltas = scratch[: plan.rows], scratch[plan.rows : 2 * plan.rows]
        panels = scratch[2 * plan.rows :]  # of images and then, when nobody needs those any more, of strips
        image_panels = panels[: plan.image_panels].reshape(len(plan.batches), -1)
        strip_panels = panels[: plan.strip_panels].reshape(len(plan.strips), -1)
        arrays = (
            *objective, images, plan.sizes, weights, frozen, plan.batches, plan.strips,
            activations, deltas, plan.stride, image_panels, strip_panels, watch, out,
        )  # fmt: skip

        def help_out() -> None:
            patience = _PATIENCE
            while not (finished or work(board, pieces, patience, *arrays)):
                patience = 1  # another thread has been interrupted: look now and then
                sleep(_NOW_AND_THEN)

        useful = threads.threads_for(frozen.size * len(images) // _ADDS_A_WORD)
        helpers = [threads.Helper(help_out) for _ in range(useful - 1)]
        try:
            threads.ask(helpers)
            while not work(board, pieces, _PATIENCE, *arrays):
                sleep(0)  # a helper has been interrupted, perhaps for this thread
            finished = True  # and helpers, that may be slow to notice, touch nothing but the board any more
        finally:
            interrupted, finished = not finished, True
            threads.dismiss(helpers, wait=interrupted)
    return out, not np.isnan(watch).any()


class _Plan(NamedTuple):
    """How a batch is cut and where things lie; all that does not depend on its values."""

    sizes: NDArray[np.int64]
    batches: NDArray[np.int64]  # (pieces, 2): ranges of images
    strips: NDArray[np.int64]  # (pieces, 3): a layer and a range of its inputs
    stride: int  # values from one neuron's activations to the next's
    rows: int  # values of all activations
    image_panels: int  # values of the panels of all pieces of `batches`: a block's images, turned
    strip_panels: int  # values of the panels of all pieces of `strips`: inputs of a strip for a number of steps
    scratch: int  # values of everything


@lru_cache(maxsize=64)
def _plan(sizes: tuple[int, ...], count: int, cores: int) -> _Plan:
    # an odd number of lines from row to row: a power of two would have a column's values share a set of the cache
    stride = (-(-count // LINE) | 1) * LINE
    batches, strips = _image_pieces(count, cores), _strip_pieces(sizes)
    rows = sum(sizes[1:]) * stride
    image_panels = len(batches) * _padded(sizes[0]) * IMAGES
    strip_panels = len(strips) * min(_padded(count), STEPS) * WIDTH
    scratch = 2 * rows + max(image_panels, strip_panels)
    cut = np.array(sizes), np.array(batches), np.array(strips)
    return _Plan(*cut, stride, rows, image_panels, strip_panels, scratch)


def _padded(count: int) -> int:
    return -(-count // LANES) * LANES


def _image_pieces(count: int, cores: int) -> list[tuple[int, int]]:
    """The batch cut for the cores, in whole vectors."""
    step = IMAGES if count >= IMAGES * cores else LANES
    return threads.ranges(count, threads.pieces_for_cores(-(-count // step)), step)


def _strip_pieces(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Layers and ranges of their inputs, about as much work in each, for the cores."""
    total = sum(of * to for of, to in pairwise(sizes))
    pieces = []
    for layer, (of, to) in enumerate(pairwise(sizes)):
        share = -(-threads.pieces_for_cores(1 << 30) * of * to // total)
        pieces += [(layer, first, last) for first, last in threads.ranges(of, share, WIDTH)]
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
