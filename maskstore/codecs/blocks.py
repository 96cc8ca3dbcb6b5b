"""How blocks of large layers are coded: a few codecs are found by samples of the layer, and each block takes the best.

The table of a mask in blocks names the codec of every block, so a choice that a sample got wrong costs one look at it,
and a block never takes more than its plain bits. A codec that can code only some layers has infinite bits in its `plan`
for the others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from maskstore.codecs.base import Codec, EncodedLayer, Piece, Planner
from maskstore.codecs.choice import CodecChoice, codec_from_config
from maskstore.codecs.raw import Raw
from maskstore.errors import CodecError
from maskstore.files import parse_json

BLOCKED_BITS = 1 << 22  # masks of so many bits and more are coded in blocks
_MOST_CODECS = 256
_DIGITS, _LONG_DIGITS, _SPARSE_DIGITS = 20, 23, 24
_CODED_BITS = 1 << 18  # blocks of sparse layers are larger, so that about so much is left of each
_LESS = 0.999  # a slower codec has to save so much
_RAW: Codec = Raw()


class Method(NamedTuple):
    """How the blocks of one layer are coded."""

    codecs: tuple[tuple[Codec, Planner], ...]
    """Each block is coded by the one that needs the fewest bits."""
    digits: int
    """The binary logarithm of the most bits of a block."""

    def or_as(self, other: "Method") -> "Method":
        """In blocks as the other says, each by a codec of this one or of the other."""
        new = (each for each in other.codecs if each[0] not in [codec for codec, _ in self.codecs])
        return Method((*self.codecs, *new), other.digits)

    def seen(self, blocks: Sequence[Piece]) -> "Method":
        """With what some blocks of the layer tell about the others."""
        seen = [(codec, *codec.planner(blocks)) for codec, _ in self.codecs]
        wanted = min(_LONG_DIGITS, max(digits for _, _, digits in seen))
        return Method(tuple((codec, planner) for codec, planner, _ in seen), max(self.digits, wanted))


@dataclass(frozen=True)
class Blocks:
    """What a mask in blocks has in the place of a codec's description: the codecs of its blocks.

    Its JSON is `{"id": "blocks", "of": [...]}`. It stands for a layout of the data, and is no codec itself.
    """

    of: tuple[Codec, ...] = ()

    @property
    def id(self) -> str:
        """The name of the layout."""
        return "blocks"

    def to_json(self) -> str:
        """Compact JSON of the layout's name and the codecs."""
        config = {"id": "blocks", "of": [codec.to_config() for codec in self.of]}
        return json.dumps(config, separators=(",", ":"))


@lru_cache(maxsize=64)
def layout_from_json(text: str) -> Blocks:
    """The codecs that the text about a mask in blocks names; CodecError or CorruptError for any other text."""
    config: Any = parse_json(text)
    if (
        not isinstance(config, dict)
        or config.keys() != {"id", "of"}
        or not isinstance(config["of"], list)
        or len(config["of"]) > _MOST_CODECS
    ):
        raise CodecError(f"codec blocks: expected a list of at most {_MOST_CODECS} codecs, found {text[:80]}")
    return Blocks(tuple(codec_from_config(each) for each in config["of"]))


def method(codec: Codec | CodecChoice, samples: Sequence[Piece]) -> Method:
    """How to code the blocks of a layer that `samples` are of."""
    size = sum(sample.layer.size for sample in samples)
    if isinstance(codec, CodecChoice):
        codecs, bits = codec.candidates(samples)
    else:
        codecs, bits = (codec,), sum(codec.plan(*sample).bits for sample in samples)
    digits = _DIGITS
    while digits < _SPARSE_DIGITS and bits * 2**digits < _CODED_BITS * size:
        digits += 1
    return Method(tuple((each, each.plan) for each in codecs), digits)


def encode_block(how: Method, piece: Piece) -> tuple[Codec, EncodedLayer]:
    """The codec that needs the fewest bits for a block, and what it wrote; plain bits where none saves any.

    Of two that need nearly the same, the one named first.
    """
    chosen, plan = _RAW, _RAW.plan(*piece)
    for codec, planner in how.codecs:
        found = planner(*piece)
        if found.bits < (plan.bits if chosen is _RAW else _LESS * plan.bits):
            chosen, plan = codec, found
    return chosen, plan.encode()
