"""Task inference over masks that lie in many processes: each has some rows, and sends back its best few."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
