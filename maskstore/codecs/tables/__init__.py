"""Probability tables of the codecs `ans` and `mix`: walks or curves, whichever describes a mask in fewer bytes."""

from maskstore.codecs.tables.table import POINTS, Table, choose, point_probabilities, read_table

__all__ = ["POINTS", "Table", "choose", "point_probabilities", "read_table"]
