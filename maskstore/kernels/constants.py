"""Sizes that the loops and the memory they walk through agree on."""

LANES = 16
"""Masks of a block, side by side."""
CHUNK = 32
"""Bits of a chunk: what lies together of one mask."""
LINE = 16
"""Values of 4 bytes in a line of the cache."""
