"""Recovery of a stored pattern from unlabelled data: the memory's energy and the model's entropy, annealed."""

from hopfield.recovery.cue import CueRecipe
from hopfield.recovery.interface import (
    Entropy,
    RecoverableMemory,
    Recovery,
    RecoveryRecipe,
    Trace,
    entropy_gradient,
    recover,
)
from hopfield.recovery.mean_field import MeanFieldRecipe
from hopfield.recovery.paper import PaperRecipe
from hopfield.recovery.search import SearchRecipe

__all__ = [
    "CueRecipe",
    "Entropy",
    "MeanFieldRecipe",
    "PaperRecipe",
    "RecoverableMemory",
    "Recovery",
    "RecoveryRecipe",
    "SearchRecipe",
    "Trace",
    "entropy_gradient",
    "recover",
]
