"""Images and tasks: data sets, the streams of tasks made of them, batches, and checks of what a caller passes."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
