"""Recovery of a stored pattern from unlabelled data: the memory's energy and the model's entropy, annealed."""

from hopfield.anneal.mean_field import MeanFieldRecipe
from hopfield.anneal.paper import PaperRecipe
from hopfield.anneal.recover import Entropy, Recipe, Recovery, Trace, recover
from hopfield.anneal.search import SearchRecipe

__all__ = ["Entropy", "MeanFieldRecipe", "PaperRecipe", "Recipe", "Recovery", "SearchRecipe", "Trace", "recover"]
