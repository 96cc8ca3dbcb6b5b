"""Methods that supermasks in superposition are compared with, behind one interface."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
