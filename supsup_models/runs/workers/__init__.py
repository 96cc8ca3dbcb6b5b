"""A run's tasks trained by other processes: what they are sent, what comes back, and Ray as an executor among others.

A worker trains, judges and codes. Who writes the bank takes the coded masks in order, and does not know what trained
them: anything with `submit` will do, such as a `concurrent.futures.Executor`.
"""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
