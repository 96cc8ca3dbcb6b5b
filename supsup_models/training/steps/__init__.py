"""One step of training, written several ways: plainly with autograd, and fast by hand, for dense and sparse masks."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
