"""Memories for patterns with few ones: with enough of them, smaller than what they hold."""

from hopfield.memories.sparse.base import SparseMemory
from hopfield.memories.sparse.coarse_covariance import CoarseCovariance
from hopfield.memories.sparse.covariance import Covariance
from hopfield.memories.sparse.teaching import Teaching
from hopfield.memories.sparse.willshaw import Willshaw

__all__ = ["CoarseCovariance", "Covariance", "SparseMemory", "Teaching", "Willshaw"]
