"""Which commands go on where they were interrupted. This module imports nothing: Ctrl-C may come at any moment."""

RESUMING = ("train", "reproduce")
