"""The sections of a report, a file each: what is drawn, the sentence above it, and the table below."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
