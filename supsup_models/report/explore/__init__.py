"""`supsup explore`: a page to look into a run with: images, the scores of all masks, and the masks themselves."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
