"""One codec a file; each is a frozen dataclass with an id and a JSON configuration.

An id stands for one byte format for ever: bytes written under an id by any version decode alike in every later one.
"""

from maskstore.codecs.ans import Ans
from maskstore.codecs.base import Codec, EncodedLayer
from maskstore.codecs.choice import LEVELS, Auto, encode_mask, estimate_bits, size_of
from maskstore.codecs.gap import Gap
from maskstore.codecs.mix import Mix
from maskstore.codecs.raw import Raw
from maskstore.codecs.registry import codec_from_config, codec_names, codec_to_json, get_codec
from maskstore.codecs.zstd import Zstd

__all__ = [
    "LEVELS",
    "Ans",
    "Auto",
    "Codec",
    "EncodedLayer",
    "Gap",
    "Mix",
    "Raw",
    "Zstd",
    "codec_from_config",
    "codec_names",
    "codec_to_json",
    "encode_mask",
    "estimate_bits",
    "get_codec",
    "registry",
    "size_of",
]
