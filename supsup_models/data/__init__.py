"""Data sets and streams of tasks. Names are here at once; what needs torch is imported when it is first used."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
