"""The methods of task inference, one file each: `of_batch` scores the masks for a batch as a whole, `of_each` for each
image by itself."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
