"""`supsup report`: a run as one page that a browser shows without a network.

`read_run` reads a run, `judge_run` (which needs torch) asks its test images, `read_recovery` and `read_comparisons`
bring in what other commands wrote, and `render` makes the page of them.
"""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
