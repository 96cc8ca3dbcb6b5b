"""The k x k matrices of the dual memory: Gram matrices of packed patterns, and what each rule makes of them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import RuleError
from hopfield.rules import NEW_DIRECTION, Hebbian, PseudoInverse, Rule, Storkey
from maskstore import MaskSpec
from maskstore.torch import packed_bytes, tiles

Kernel = Callable[[np.ndarray, int], np.ndarray]
"""Gram matrix `(k, k)` float64 and d -> C `(k, k)` float64."""


def kernel_of(rule: Rule) -> Kernel:
    """How a rule's C follows from the Gram matrix; RuleError for rules whose couplings are not of the form Xᵀ C X."""
    if isinstance(rule, Hebbian):
        return _hebbian
    if isinstance(rule, PseudoInverse):
        return _pseudo_inverse
    if isinstance(rule, Storkey) and rule.variant == "first-order":
        return _first_order_storkey
    raise RuleError(f"dual memory: expected Hebbian, PseudoInverse or Storkey('first-order'), found {rule!r}")


def gram(rows: np.ndarray, dim: int, centre: float, known: np.ndarray) -> np.ndarray:
    """`X Xᵀ`, `(k, k)` float64, of packed patterns `(k, words)`; `known` is its upper left part, computed before."""
    k, old = len(rows), len(known)
    result = np.zeros((k, k))
    result[:old, :old] = known
    sums = 2.0 * np.bitwise_count(rows).sum(axis=1, dtype=np.int64) - dim  # of each pattern's spins
    for i in range(old, k):
        differing = np.bitwise_count(rows[: i + 1] ^ rows[i]).sum(axis=1, dtype=np.int64)
        row = dim - 2.0 * differing - centre * (sums[: i + 1] + sums[i]) + centre**2 * dim
        result[i, : i + 1] = result[: i + 1, i] = row
    return result


def diagonal(rows: np.ndarray, spec: MaskSpec, centre: float, kernel: Tensor) -> Tensor:
    """Diagonal of `Xᵀ C X`, `(d,)` float32."""
    result = torch.zeros(spec.bits)
    if len(rows):
        weights = kernel.float()
        for flat, bits in tiles(packed_bytes(rows), spec):
            x = 2 * bits - 1 - centre  # (k, t)
            result[flat] = (x * (weights @ x)).sum(dim=0)
    return result


def gains(
    rows: np.ndarray, spec: MaskSpec, centre: float, gram: np.ndarray, kernel: Tensor, diagonal: Tensor
) -> np.ndarray:
    """`x . Ψ x / x . x` of every pattern, Ψ with zero diagonal, `(k,)`: x² = 1 + c² - 2 c z for spins z."""
    whole = np.einsum("ab,bc,ca->a", gram, kernel.numpy(), gram)
    spins = torch.zeros(len(rows), dtype=torch.float64)
    for flat, bits in tiles(packed_bytes(rows), spec):
        spins += (2 * bits - 1) @ diagonal[flat]
    own = (1 + centre**2) * float(diagonal.sum(dtype=torch.float64)) - 2 * centre * spins.numpy()
    result: np.ndarray = (whole - own) / gram.diagonal().clip(min=1e-30)
    return result


def _hebbian(gram: np.ndarray, dim: int) -> np.ndarray:
    return np.eye(len(gram)) / dim


def _pseudo_inverse(gram: np.ndarray, dim: int) -> np.ndarray:
    # the dense rule leaves out the same directions: those in which patterns lie in the span of others
    values, vectors = np.linalg.eigh(gram)
    kept = values > NEW_DIRECTION * dim
    result: np.ndarray = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
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
