"""Numba loops of the codecs. Importing this folder imports Numba."""
