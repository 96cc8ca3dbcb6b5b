"""Data sets: one file each, found on the disk or downloaded."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
