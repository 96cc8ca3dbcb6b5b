"""Coders written plainly, to hold the fast ones against."""
