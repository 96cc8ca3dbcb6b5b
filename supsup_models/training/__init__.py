"""How the scores of a task become its mask: recipes, one task at a time, many side by side."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
