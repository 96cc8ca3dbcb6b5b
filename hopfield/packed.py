"""Arithmetic of spins over packed patterns: a bit b of a `MaskMatrix` is the spin 2 b - 1."""

import numpy as np
from torch import Tensor

from hopfield import patterns as pt
from maskstore import Mask, MaskMatrix


def spins_dot(masks: MaskMatrix, states: np.ndarray) -> np.ndarray:
    """Inner products of states with all patterns: `(b, d)` float32 -> `(b, k)` float64."""
    sums = states.sum(axis=1, dtype=np.float64, keepdims=True)
    result: np.ndarray = 2.0 * masks.dot_many(states).astype(np.float64) - sums
    return result


def spins_weighted(masks: MaskMatrix, weights: np.ndarray) -> np.ndarray:
    """Weighted sums of the patterns: `(b, k)` -> `(b, d)` float64."""
    spread = np.stack([masks.weighted_sum(row) for row in weights])
    result: np.ndarray = 2.0 * spread - weights.sum(axis=1, keepdims=True)
    return result


def bit(masks: MaskMatrix, row: int, index: int) -> int:
    """One bit of one mask, by its flat index over all layers."""
    layer = next(layer for layer in masks.spec if index < layer.flat_start + layer.size)
    inside = index - layer.flat_start
    return int(masks.rows[row, layer.word_start + inside // 64]) >> (inside % 64) & 1


def add_patterns(masks: MaskMatrix, signs: Tensor) -> None:
    """Append patterns `(k, d)` of -1 and +1, under the next free names "pattern-0", "pattern-1", ..."""
    taken = set(masks.names)
    for dense in pt.to_bits(signs).cpu().numpy():
        number = len(masks)
        while f"pattern-{number}" in taken:
            number += 1
        taken.add(f"pattern-{number}")
        masks.append(f"pattern-{number}", Mask.from_flat(dense, masks.spec))
