"""HopSupSup: masks on neurons or weights, given back by a Hopfield memory from unlabelled images."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
