"""Supermasks in Superposition on seeded, frozen networks (Wortsman et al., NeurIPS 2020).

Importing the package is cheap; torch is imported when the first of these names is used, and without it that is one
ImportError that says what to install.
"""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
