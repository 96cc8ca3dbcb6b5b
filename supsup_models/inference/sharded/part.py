"""What one worker has and does: some rows of the masks, their products, and its best few. It needs no torch.

A part begins at a multiple of 1024 rows, so the kernels treat each of its masks as they do in one matrix of all: the
scores are the same to the bit.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore import MaskMatrix, MaskSource, MaskSpec, open_source
from maskstore.kernels import LANES, threads
from maskstore.priors import Backbone

UNIT = 1024  # rows that the kernels treat alike
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Layer(NamedTuple):
    """One layer in one pass over the network: its name, and what `MaskMatrix.outer_dots` takes of each image."""

    name: str
    delta: Floats
    activation: Floats


class Best(NamedTuple):
    """The masks that a part prefers for each image: rows of all masks and their scores, `(b, n)`, best first.

    Attributes:
        rows: Ties are in the order of the rows.
        scores: Higher is better.
        are_numbers: Whether no score of the part is NaN.
    """

    rows: Rows
    scores: Floats
    are_numbers: bool


@dataclass(frozen=True)
class Piece:
    """Some rows of one source."""

    source: Any
    """A location, an open source, which opens again where it is sent to, the path of a file of packed rows, or rows."""
    names: tuple[str, ...] | None
    """The tasks; None for packed rows."""
    start: int = 0
    stop: int = 0
    """Which packed rows, in blocks of sixteen."""
    tail: NDArray[np.uint64] | None = None
    """Packed rows that are no full block."""


@dataclass(frozen=True)
class Plan:
    """The part of one worker, to be sent to it.

    Attributes:
        spec: The layers of the masks.
        first: Its first row.
        pieces: Where its masks come from, in order.
        weights: The network's weights by layer, for derivatives of each image from the packed bits.
        model: The network, pickled, where the processor cannot take those derivatives from the packed bits. It is read
            when they are first asked for, since that imports torch.
        threads: How many threads a process of a worker uses; None for as many as there are cores.
        backbone: The kept weights that masks of a location may be coded against.
    """

    spec: MaskSpec
    first: int
    pieces: tuple[Piece, ...]
    weights: dict[str, Floats]
    model: bytes | None = None
    threads: int | None = None
    backbone: Backbone | None = None


class Part:
    """The masks of a worker. Each public method answers a question that all workers are asked.

    Args:
        plan: Which masks.
        own_process: Whether the process is the worker's own, so that the plan's number of threads holds for it.
    """

    def __init__(self, plan: Plan, *, own_process: bool = False) -> None:
        self._threads = plan.threads if own_process else None
        if self._threads is not None:
            threads.limit_threads(self._threads)
        self.first, self._weights, self._sent = plan.first, plan.weights, plan.model
        self._model: Any = None
        self.matrix = _matrix_of(plan)

    def counts(self) -> tuple[int, NDArray[np.int32]]:
        """How many masks there are, and in how many of them each bit is set."""
        if not len(self.matrix):
            return 0, np.zeros(self.matrix.spec.bits, dtype=np.int32)
        return len(self.matrix), self.matrix.counts()

    def best_by_dot(self, vectors: Floats, count: int) -> Best:
        """The best by minus the product with each vector `(b, bits)`."""
        if not len(self.matrix):
            return _none(len(vectors))
        return self._best(np.stack([-self.matrix.dot(vector) for vector in vectors]), count)

    def best_by_layers(self, layers: Sequence[Layer], count: int) -> Best:
        """The best by minus the derivative of each image's cost, through some layers."""
        if not len(self.matrix):
            return _none(len(layers[0].delta))
        return self._best(-self._derivatives(layers, len(self.matrix), None), count)

    def scores_of(self, layers: Sequence[Layer], rows: Rows) -> Floats:
        """Scores of chosen masks for each image, `(b, m)`; NaN where a mask is another worker's."""
        mine = (rows >= self.first) & (rows < self.first + len(self.matrix))
        if not mine.any():
            return np.full(rows.shape, np.nan, dtype=np.float32)
        chosen = np.where(mine, rows - self.first, 0)
        scores = -self._derivatives(layers, rows.shape[1], chosen)
        return np.where(mine, scores, np.float32("nan"))

    def _derivatives(self, layers: Sequence[Layer], count: int, chosen: Rows | None) -> Floats:
        if self._sent is not None:
            return self._by_passes(layers)
        total = np.zeros((len(layers[0].delta), count), dtype=np.float32)
        for name, delta, activation in layers:
            total += self.matrix.outer_dots(name, self._weights[name], delta, activation, chosen)
        return total

    def _by_passes(self, layers: Sequence[Layer]) -> Floats:
        """A pass over the layers for each mask, unpacked."""
        import torch

        from supsup_models.inference.per_image import LayerTrace, UnpackedLayer, image_derivatives

        if self._model is None and self._sent is not None:
            self._model = pickle.loads(self._sent)
            if self._threads is not None:
                torch.set_num_threads(self._threads)
        traced = [LayerTrace(*(torch.from_numpy(array) for array in (at.activation, at.delta))) for at in layers]
        images, unpacked = torch.arange(len(layers[0].delta)), UnpackedLayer(self._model, self.matrix)
        listed = [(mask, images) for mask in range(len(self.matrix))]
        found: Floats = image_derivatives(self._model, unpacked, traced, listed, len(self.matrix)).numpy()
        return found

    def _best(self, scores: Floats, count: int) -> Best:
        found = [best_of(row, count) for row in scores]
        values = np.stack([row[best] for row, best in zip(scores, found, strict=True)])
        return Best(np.stack(found) + self.first, values, not np.isnan(scores).any())


def best_of(scores: Floats, count: int) -> Rows:
    """The places of the `count` largest values, largest first; the earlier first where they are equal."""
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")[:count]].astype(np.int64)


def merged(parts: Sequence[Best], count: int) -> Best:
    """The best of all from the best of each part; parts are in the order of their rows."""
    rows = np.concatenate([part.rows for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]  # rows ascend from part to part, and where scores tie
    return Best(
        np.take_along_axis(rows, order, axis=1),
        np.take_along_axis(scores, order, axis=1),
        all(part.are_numbers for part in parts),
    )


def _none(images: int) -> Best:
    return Best(np.empty((images, 0), dtype=np.int64), np.empty((images, 0), dtype=np.float32), True)


def _matrix_of(plan: Plan) -> MaskMatrix:
    """The masks of a plan as one matrix; packed rows stay in their file."""
    if len(plan.pieces) == 1:
        return _read(plan.pieces[0], plan)
    result = MaskMatrix(plan.spec, room=sum(len(piece.names or ()) for piece in plan.pieces))
    for piece in plan.pieces:
        found = _read(piece, plan)
        for row in range(len(found)):
            result.append(str(len(result)), found[row])
    return result


def _read(piece: Piece, plan: Plan) -> MaskMatrix:
    spec = plan.spec
    if piece.names is None:
        tail = np.empty((0, spec.words), dtype=np.uint64) if piece.tail is None else piece.tail
        if piece.start < piece.stop:  # private pages that nobody writes to: all processes share those of the file
            blocks = np.asarray(np.load(piece.source, mmap_mode="c"))[piece.start : piece.stop]
        else:
            blocks = np.empty((0, 2 * spec.words, LANES), dtype=np.uint32)
        return MaskMatrix.of_blocks(spec, blocks, tail)
    if isinstance(piece.source, MaskMatrix):
        return piece.source
    if isinstance(piece.source, MaskSource):
        return piece.source.matrix(piece.names)
    with open_source(os.fspath(piece.source), backbone=plan.backbone) as source:
        return source.matrix(piece.names)
