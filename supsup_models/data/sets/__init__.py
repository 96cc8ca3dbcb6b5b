"""The data sets, one file each: where their files are found or downloaded, and how they are read."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
