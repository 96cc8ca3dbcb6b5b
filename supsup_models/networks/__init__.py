"""Networks whose weights are frozen and whose masks are arguments, and plain ones to be converted."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
