"""The associative memories, one a file, and how they are saved. All have the interface of `Memory`."""

from hopfield.memories.base import Memory
from hopfield.memories.by_layer import BlockMemory
from hopfield.memories.coded import CodedMemory
from hopfield.memories.dense import DenseAssociativeMemory
from hopfield.memories.dual import DualMemory
from hopfield.memories.network import HopfieldNetwork
from hopfield.memories.quantized import QuantizedNetwork, quantized_bytes
from hopfield.memories.sparse import CoarseCovariance, Covariance, SparseMemory, Teaching, Willshaw
from hopfield.memories.storage import load_memory

__all__ = [
    "BlockMemory",
    "CoarseCovariance",
    "CodedMemory",
    "Covariance",
    "DenseAssociativeMemory",
    "DualMemory",
    "HopfieldNetwork",
    "Memory",
    "QuantizedNetwork",
    "SparseMemory",
    "Teaching",
    "Willshaw",
    "load_memory",
    "quantized_bytes",
]
