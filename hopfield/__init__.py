"""Associative memory for binary patterns: learning rules, dynamics and recovery from a model's entropy. Needs torch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError('hopfield needs torch, which is not installed: pip install "maskstore[models]"') from error

from hopfield.anneal import Entropy, PaperRecipe, Recipe, Recovery, Trace, recover
from hopfield.blocks import BlockMemory
from hopfield.dynamics import Relaxed, Update, mean_field, relax
from hopfield.errors import CapacityWarning, HopfieldError
from hopfield.memory import Memory
from hopfield.network import HopfieldNetwork
from hopfield.rules import Hebbian, Rule, Storkey
from hopfield.storage import load_memory

__all__ = [
    "BlockMemory",
    "CapacityWarning",
    "Entropy",
    "Hebbian",
    "HopfieldError",
    "HopfieldNetwork",
    "Memory",
    "PaperRecipe",
    "Recipe",
    "Recovery",
    "Relaxed",
    "Rule",
    "Storkey",
    "Trace",
    "Update",
    "load_memory",
    "mean_field",
    "recover",
    "relax",
]
