"""The hot loops in plain numpy: slow, obvious, and what the fast kernels are tested against.

Each function does what `interface.Kernels` says.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels.interface import Blocks, Floats, Tail
from maskstore.kernels.layout import CHUNK, LANES, chunks_of, rows_of


def unpacked(blocks: Blocks, tail: Tail) -> NDArray[np.float64]:
    """Bits of all masks, padding included, `(k, 64 * words)`."""
    octets = rows_of(blocks, tail).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little").astype(np.float64)


def dot(blocks: Blocks, tail: Tail, g: Floats, layers: NDArray[np.int64]) -> Floats:
    dense = unpacked(blocks, tail)
    total = np.zeros(len(dense))
    for word, flat, size in layers:
        total += dense[:, 64 * word : 64 * word + size] @ g[flat : flat + size].astype(np.float64)
    return total.astype(np.float32)


def weighted_sum(blocks: Blocks, tail: Tail, alpha: Floats) -> Floats:
    return (alpha.astype(np.float64) @ unpacked(blocks, tail)).astype(np.float32)


def outer_dots(
    blocks: Blocks,
    tail: Tail,
    first_bit: int,
    weights: Floats,
    left: Floats,
    right: Floats,
    chosen: NDArray[np.int64] | None = None,
) -> Floats:
    dense = unpacked(blocks, tail)[:, first_bit : first_bit + weights.size].reshape(-1, *weights.shape)
    result: Floats = np.einsum("bo,kon,bn->bk", left, dense * weights, right, optimize=True).astype(np.float32)
    return result if chosen is None else np.take_along_axis(result, chosen, axis=1)


def chunk_facts(g: Floats, mean: Floats, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.zeros((6, len(starts)))
    for chunk, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        values, p = g[start : start + size].astype(np.float64), mean[start : start + size].astype(np.float64)
        h = np.sign(values) * np.sqrt(np.abs(values))
        terms = (np.abs(values), np.abs(h), h**2 * p * (1 - p), values * h * p * (1 - p), values * p, h * p)
        out[:, chunk] = [term.sum() for term in terms]
    return out


def dot_chunks(
    blocks: Blocks,
    tail: Tail,
    places: NDArray[np.int64],
    values: Floats,
    chosen: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    dense = unpacked(blocks, tail).reshape(LANES * len(blocks) + len(tail), 2 * tail.shape[1], CHUNK)[:, places]
    total: NDArray[np.float64] = dense.reshape(len(dense), len(values)) @ values.astype(np.float64)
    return total if chosen is None else total[chosen]


def chosen_rows(blocks: Blocks, tail: Tail, chosen: NDArray[np.int64]) -> Tail:
    return rows_of(blocks, tail)[chosen]


def masked_lines(rows: Tail, chosen: NDArray[np.int64], first_bit: int, weights: Floats, values: Floats) -> Floats:
    lines = values.astype(np.float64)
    dense = [_layer(rows[row], first_bit, weights) for row in chosen.tolist()]
    products = [masked @ line for masked, line in zip(dense, lines, strict=True)]
    return np.array(products, dtype=np.float32).reshape(len(values), len(weights))


def masked_taps(
    rows: Tail,
    chosen: NDArray[np.int64],
    first_bit: int,
    weights: Floats,
    values: Floats,
    places: NDArray[np.int64],
    length: int,
    laid: NDArray[np.int64] | None = None,
    kept: NDArray[np.int64] | None = None,
) -> Floats:
    if laid is not None:
        lines = np.zeros((len(values), max(int(places.max()) + length, int((laid[:, 2] + laid[:, 3]).max(initial=0)))))
        for start, step, to, count in laid.tolist():
            lines[:, to : to + count] = values[:, start : start + step * count : step]
        values = lines.astype(np.float32)
    out = np.empty((len(values), len(weights), length), dtype=np.float32)
    of_group = len(weights) // len(places)
    for b, row in enumerate(chosen.tolist()):
        dense = _layer(rows[row], first_bit, weights)
        for neuron, masked in enumerate(dense):
            read = places[neuron // of_group][:, None] + np.arange(length)
            out[b, neuron] = masked @ values[b].astype(np.float64)[read]
    if kept is None:
        return out
    found = np.empty((*out.shape[:2], int(kept[:, 2].sum())), dtype=np.float32)
    for start, to, count in kept.tolist():
        found[..., to : to + count] = out[..., start : start + count]
    return found


def _layer(row: NDArray[np.uint64], first_bit: int, weights: Floats) -> NDArray[np.float64]:
    """The masked weights of a layer, `(o, n)`, given a packed mask."""
    bits = np.unpackbits(row.astype("<u8", copy=False).view(np.uint8), bitorder="little")
    of_layer = bits[first_bit : first_bit + weights.size].reshape(weights.shape)
    return np.where(of_layer == 1, weights.astype(np.float64), 0.0)


def chosen_blocks(blocks: Blocks, tail: Tail, chosen: Sequence[int]) -> Blocks:
    chunks = chunks_of(rows_of(blocks, tail)[np.asarray(chosen, dtype=np.int64)])
    return np.ascontiguousarray(chunks.reshape(-1, LANES, chunks.shape[1]).transpose(0, 2, 1))


def score_contexts(key: tuple[int, int], signs: NDArray[np.uint64], size: int, start: int = 0) -> NDArray[np.uint8]:
    stream = np.random.Philox(key=np.array(key, dtype=np.uint64), counter=start // 8)
    words = stream.random_raw((size + 1) // 2)
    u = np.asarray(words, dtype="<u8").view("<u4")[:size].astype(np.int64)
    positive = u >= 2**31
    magnitude = np.where(positive, u - 2**31, 2**31 - 1 - u)
    weight = np.unpackbits(signs.astype("<u8", copy=False).view(np.uint8), count=size, bitorder="little")
    return (4 * (magnitude >> 25) + 2 * positive + weight).astype(np.uint8)
