"""Everything that is written in LLVM IR: vector primitives and the loops made of them."""

from maskstore.kernels.ir.vectors import FLOATS, INTS, ZEROS, data, function, load, splat, store

__all__ = [
    "FLOATS",
    "INTS",
    "ZEROS",
    "chosen_chunks",
    "data",
    "eight",
    "function",
    "listed",
    "load",
    "lookup",
    "masked_adds",
    "pair_tables",
    "products",
    "seeded_contexts",
    "splat",
    "store",
    "vectors",
    "wide",
]
