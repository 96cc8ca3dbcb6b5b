"""Associative memory for binary patterns: learning rules, dynamics and recovery from a model's entropy. Needs torch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError('hopfield needs torch, which is not installed: pip install "maskstore[models]"') from error

from hopfield import patterns
from hopfield.capacity import (
    BasinPoint,
    CapacityPoint,
    break_even_patterns,
    hebbian_bit_error,
    largest,
    load,
    scan_basins,
    scan_capacity,
)
from hopfield.dynamics import Relaxed, Update, mean_field, relax
from hopfield.errors import CapacityWarning, HopfieldError, LearningWarning
from hopfield.files import load_memory
from hopfield.memories import (
    BlockMemory,
    DenseAssociativeMemory,
    DualMemory,
    HopfieldNetwork,
    Memory,
    QuantizedNetwork,
    quantized_bytes,
)
from hopfield.recovery import Entropy, MeanFieldRecipe, PaperRecipe, Recipe, Recovery, SearchRecipe, Trace, recover
from hopfield.rules import Hebbian, Perceptron, PseudoInverse, Rule, Storkey

__all__ = [
    "BasinPoint",
    "BlockMemory",
    "CapacityPoint",
    "CapacityWarning",
    "DenseAssociativeMemory",
    "DualMemory",
    "Entropy",
    "Hebbian",
    "HopfieldError",
    "HopfieldNetwork",
    "LearningWarning",
    "MeanFieldRecipe",
    "Memory",
    "PaperRecipe",
    "Perceptron",
    "PseudoInverse",
    "QuantizedNetwork",
    "Recipe",
    "Recovery",
    "Relaxed",
    "Rule",
    "SearchRecipe",
    "Storkey",
    "Trace",
    "Update",
    "break_even_patterns",
    "hebbian_bit_error",
    "largest",
    "load",
    "load_memory",
    "mean_field",
    "patterns",
    "quantized_bytes",
    "recover",
    "relax",
    "scan_basins",
    "scan_capacity",
]
