"""A mask in memory: its layers, its packed bits, many masks side by side. Knows neither codecs nor banks."""

from maskstore.masks.bits import popcount
from maskstore.masks.blocks import FEWEST_DIGITS, MOST_DIGITS, Cut
from maskstore.masks.copies import Copies
from maskstore.masks.interleave import Interleaved
from maskstore.masks.leader import Leader
from maskstore.masks.mask import Mask
from maskstore.masks.matrix import MaskMatrix
from maskstore.masks.signed import SCALES, SignedMask, kept_bits, rows_of, spread_bits
from maskstore.masks.spec import MAX_LAYER_BITS, LayerSpec, MaskSpec

__all__ = [
    "FEWEST_DIGITS",
    "MAX_LAYER_BITS",
    "MOST_DIGITS",
    "SCALES",
    "Copies",
    "Cut",
    "Interleaved",
    "LayerSpec",
    "Leader",
    "Mask",
    "MaskMatrix",
    "MaskSpec",
    "SignedMask",
    "bits",
    "kept_bits",
    "popcount",
    "rows_of",
    "spread_bits",
]
