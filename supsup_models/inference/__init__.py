"""Which task images belong to, inferred from the images alone, and which label; evaluation and serving of masks."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
