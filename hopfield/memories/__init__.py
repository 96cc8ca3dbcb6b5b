"""The associative memories, one file each."""

from hopfield.memories.base import Memory
from hopfield.memories.by_layer import BlockMemory
from hopfield.memories.dense import DenseAssociativeMemory
from hopfield.memories.dual import DualMemory
from hopfield.memories.network import HopfieldNetwork
from hopfield.memories.quantized import QuantizedNetwork, quantized_bytes

__all__ = [
    "BlockMemory",
    "DenseAssociativeMemory",
    "DualMemory",
    "HopfieldNetwork",
    "Memory",
    "QuantizedNetwork",
    "quantized_bytes",
]
