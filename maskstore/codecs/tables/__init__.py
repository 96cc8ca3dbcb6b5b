"""Probability tables of the codecs `ans` and `mix`: walks or curves, whichever describes a mask in fewer bytes."""

from maskstore.codecs.tables.table import Table, choose, read_table

__all__ = ["Table", "choose", "read_table"]
