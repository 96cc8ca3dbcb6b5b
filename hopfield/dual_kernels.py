"""The k x k matrices of the dual memory: Gram matrices of packed patterns, and what each rule makes of them."""

from collections.abc import Callable

import numpy as np

from hopfield.errors import RuleError
from hopfield.rules import Hebbian, PseudoInverse, Rule, Storkey
from maskstore import MaskMatrix

Kernel = Callable[[np.ndarray, int], np.ndarray]
"""Gram matrix `(k, k)` float64 and d -> C `(k, k)` float64."""

_TILE_BITS = 1 << 12


def kernel_of(rule: Rule) -> Kernel:
    """How a rule's C follows from the Gram matrix; RuleError for rules whose couplings are not of the form Xᵀ C X."""
    if isinstance(rule, Hebbian):
        return _hebbian
    if isinstance(rule, PseudoInverse):
        return _pseudo_inverse
    if isinstance(rule, Storkey) and rule.variant == "first-order":
        return _first_order_storkey
    raise RuleError(f"dual memory: expected Hebbian, PseudoInverse or Storkey('first-order'), found {rule!r}")


def gram(masks: MaskMatrix, centre: float, known: np.ndarray) -> np.ndarray:
    """`X Xᵀ`, `(k, k)` float64, exact for centre 0; `known` is its upper left part, computed before."""
    k, d, old = len(masks), masks.spec.bits, len(known)
    result = np.zeros((k, k))
    result[:old, :old] = known
    spins = np.array([2.0 * masks[i].ones - d for i in range(k)])  # sum of each pattern's spins
    for i in range(old, k):
        differing = np.bitwise_count(masks.rows[: i + 1] ^ masks.rows[i]).sum(axis=1, dtype=np.int64)
        row = d - 2.0 * differing - centre * (spins[: i + 1] + spins[i]) + centre**2 * d
        result[i, : i + 1] = result[: i + 1, i] = row
    return result


def diagonal(masks: MaskMatrix, centre: float, kernel: np.ndarray) -> np.ndarray:
    """Diagonal of `Xᵀ C X`, `(d,)` float32, a tile of columns at a time."""
    result = np.zeros(masks.spec.bits, dtype=np.float32)
    rows = np.ascontiguousarray(masks.rows).astype("<u8", copy=False).view(np.uint8)
    weights = kernel.astype(np.float32)
    for layer in masks.spec:
        for start in range(0, layer.size, _TILE_BITS):
            stop = min(start + _TILE_BITS, layer.size)
            first = layer.word_start * 8 + start // 8
            packed = rows[:, first : layer.word_start * 8 + (stop + 7) // 8]
            bits = np.unpackbits(packed, axis=1, count=stop - start, bitorder="little")
            x = 2 * bits.astype(np.float32) - np.float32(1 + centre)  # (k, tile)
            result[layer.flat_start + start : layer.flat_start + stop] = (x * (weights @ x)).sum(axis=0)
    return result


def _hebbian(gram: np.ndarray, dim: int) -> np.ndarray:
    return np.eye(len(gram)) / dim


def _pseudo_inverse(gram: np.ndarray, dim: int) -> np.ndarray:
    # patterns that lie in the span of others have eigenvalues of zero; pinv leaves those directions out
    result: np.ndarray = np.linalg.pinv(gram, rcond=1e-6, hermitian=True) if len(gram) else gram.copy()
    return result


def _first_order_storkey(gram: np.ndarray, dim: int) -> np.ndarray:
    """C of `Ψ = Xᵀ C X - s I`: storing z adds `(1 + 2 s) / d` for itself and `-C X z / d` against the earlier ones.

    It follows from h = Xᵀ C X z - s z put into the rule; s grows by 1/d with every pattern.
    """
    k = len(gram)
    kernel = np.zeros((k, k))
    shrink = 0.0
    for n in range(k):
        known = kernel[:n, :n] @ gram[:n, n]
        kernel[n, :n] = kernel[:n, n] = -known / dim
        kernel[n, n] = (1 + 2 * shrink) / dim
        shrink += 1 / dim
    return kernel
