"""Learning from a stream that never says which task a batch is from: which mask to train, when to start a new one."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
