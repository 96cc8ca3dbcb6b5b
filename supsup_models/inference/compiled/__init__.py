"""Forward and backward pass of one-shot inference, compiled for AVX-512. The folder is optional: without it autograd
does the same work more slowly."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
