"""Numba loops of the codecs. Importing this folder imports Numba."""

__all__ = [
    "byte_rans",
    "gap_loop",
    "lines",
    "mix_factors",
    "mix_model",
    "pattern_form",
    "pattern_plan",
    "pattern_tables",
    "range_coder",
    "rans",
]
