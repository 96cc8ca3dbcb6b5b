"""Recovery of a stored pattern from unlabelled data: the memory's energy and the model's entropy, annealed."""

from hopfield.anneal.paper import PaperRecipe
from hopfield.anneal.recover import Entropy, Recipe, Recovery, Trace, recover

__all__ = ["Entropy", "PaperRecipe", "Recipe", "Recovery", "Trace", "recover"]
