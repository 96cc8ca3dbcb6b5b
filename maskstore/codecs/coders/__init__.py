"""Numba loops of the codecs. Importing this folder imports Numba."""

__all__ = ["gap_loop", "mix_model", "range_coder", "rans"]
