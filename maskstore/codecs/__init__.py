"""Masks as bytes: one codec a file, each with an id, and the choice among them.

An id stands for one byte format for ever: bytes written under an id by any version decode alike in every later one.
"""

from maskstore.codecs.ans import Ans, counts_by_context
from maskstore.codecs.base import Codec, EncodedLayer, Piece
from maskstore.codecs.blocks import BLOCKED_BITS, Blocks, Method, encode_block, layout_from_json, method
from maskstore.codecs.choice import (
    LEVELS,
    AnyCodec,
    CodecChoice,
    codec_from_config,
    codec_names,
    codec_to_json,
    encode_mask,
    estimate_bits,
    get_codec,
    size_of,
)
from maskstore.codecs.costs import FREE_BYTES, RATIO, Budget
from maskstore.codecs.gap import ContextGap, Gap
from maskstore.codecs.jobs import in_batches, side_by_side
from maskstore.codecs.mix import Mix
from maskstore.codecs.pattern import Pattern
from maskstore.codecs.raw import Raw
from maskstore.codecs.zstd import Zstd

__all__ = [
    "BLOCKED_BITS",
    "FREE_BYTES",
    "LEVELS",
    "RATIO",
    "Ans",
    "AnyCodec",
    "Blocks",
    "Budget",
    "Codec",
    "CodecChoice",
    "ContextGap",
    "EncodedLayer",
    "Gap",
    "Method",
    "Mix",
    "Pattern",
    "Piece",
    "Raw",
    "Zstd",
    "codec_from_config",
    "codec_names",
    "codec_to_json",
    "counts_by_context",
    "encode_block",
    "encode_mask",
    "estimate_bits",
    "get_codec",
    "in_batches",
    "layout_from_json",
    "method",
    "side_by_side",
    "size_of",
]
