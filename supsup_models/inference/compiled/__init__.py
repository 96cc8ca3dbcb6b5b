"""The hot loops of training in Numba, each beside its obvious numpy twin. Import a module where it is used, not before:
Numba takes a second to load."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
