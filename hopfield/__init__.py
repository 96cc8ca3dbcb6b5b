"""Associative memory for binary patterns."""
