"""A run: a folder with the masks of a stream's tasks and the record of how they were made, and what is done to it.

Train, load, evaluate, infer, recover: the command line, the report and the experiments share these functions. They
take a configuration or a folder, and print no results.
"""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
