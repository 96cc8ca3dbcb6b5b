"""Associative memory for binary patterns: learning rules, dynamics and recovery from a model's entropy. Needs torch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    message = 'hopfield: expected torch, found it not installed (pip install "maskstore[models]")'
    raise ImportError(message, name="torch") from error

from hopfield import capacity, dynamics, errors, patterns, theory
from hopfield.memories import (
    BlockMemory,
    CoarseCovariance,
    CodedMemory,
    Covariance,
    DenseAssociativeMemory,
    DualMemory,
    HopfieldNetwork,
    Memory,
    QuantizedNetwork,
    SparseMemory,
    Teaching,
    Willshaw,
    load_memory,
)
from hopfield.recovery import CueRecipe, MeanFieldRecipe, PaperRecipe, Recovery, RecoveryRecipe, SearchRecipe, recover
from hopfield.rules import Hebbian, Perceptron, ProbabilityFlow, PseudoInverse, Rule, Storkey

__all__ = [
    "BlockMemory",
    "CoarseCovariance",
    "CodedMemory",
    "Covariance",
    "CueRecipe",
    "DenseAssociativeMemory",
    "DualMemory",
    "Hebbian",
    "HopfieldNetwork",
    "MeanFieldRecipe",
    "Memory",
    "PaperRecipe",
    "Perceptron",
    "ProbabilityFlow",
    "PseudoInverse",
    "QuantizedNetwork",
    "Recovery",
    "RecoveryRecipe",
    "Rule",
    "SearchRecipe",
    "SparseMemory",
    "Storkey",
    "Teaching",
    "Willshaw",
    "capacity",
    "dynamics",
    "errors",
    "load_memory",
    "patterns",
    "recover",
    "theory",
]
