"""How many bits masks need by their entropy, by what a coder may know of them."""

from math import comb, log2

import numpy as np
from numpy.typing import NDArray

from maskstore import Mask
from maskstore.masks import popcount


def iid_bits(mask: Mask) -> float:
    """Of independent bits, with one probability for each layer."""
    counts = [(layer.size, popcount(mask.words[layer.packed])) for layer in mask.spec]
    return sum(_bits(np.array([ones]), size) for size, ones in counts)


def best_static_bits(mask: Mask) -> float:
    """The least, layer by layer, under one probability for the layer, each row, or each column; without tables."""
    total = 0.0
    for layer in mask.spec:
        dense = mask.layer(layer.name).reshape(layer.shape[0], -1)
        by_row, by_column = dense.sum(axis=1), dense.sum(axis=0)
        total += min(_bits(by_row.sum(keepdims=True), dense.size), _bits(by_row, dense.shape[1]),
                     _bits(by_column, dense.shape[0]))  # fmt: skip
    return total


def n_of_m_bits(mask: Mask, n: int, m: int) -> float:
    """Of masks that keep any n of each m neighbours: log2 C(m, n) / m bits a weight."""
    return mask.spec.bits * log2(comb(m, n)) / m


def _bits(ones: NDArray[np.int64], of: int) -> float:
    """Sum of n h(ones / n) over groups of n bits."""
    share = ones / max(of, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    return float(of * np.nan_to_num(each).sum())
