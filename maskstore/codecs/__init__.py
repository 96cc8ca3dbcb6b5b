"""One codec a file; each is a frozen dataclass with an id and a JSON configuration.

An id stands for one byte format for ever: bytes written under an id by any version decode alike in every later one.
"""

from maskstore.codecs.ans import Ans
from maskstore.codecs.base import Codec, EncodedLayer
from maskstore.codecs.choice import Auto
from maskstore.codecs.gap import Gap
from maskstore.codecs.mix import Mix
from maskstore.codecs.raw import Raw
from maskstore.codecs.zstd import Zstd

__all__ = ["Ans", "Auto", "Codec", "EncodedLayer", "Gap", "Mix", "Raw", "Zstd"]
