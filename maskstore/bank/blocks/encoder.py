"""Masks to blocks, on all cores; beside the mask a few blocks a core are in memory."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

from maskstore.bank.blocks.sources import Take
from maskstore.bank.blocks.table import crc_of, table_bytes
from maskstore.codecs import (
    AnyCodec,
    Blocks,
    Codec,
    EncodedLayer,
    Method,
    Piece,
    Raw,
    encode_block,
    get_codec,
    in_batches,
    method,
    side_by_side,
)
from maskstore.masks import Cut, LayerSpec, Mask, MaskSpec
from maskstore.priors import Prior

_SAMPLE_DIGITS, _MORE_DIGITS = 16, 20
_SAMPLED_BITS = 1 << 23  # a sample for so many bits of a layer, two at most

_Coded = tuple[Codec, EncodedLayer, int, int]  # codec, what it wrote, CRC-32 of that, CRC-32 of the packed bytes


class BlockEncoder:
    """Codes the layers of a mask: an iterable of its data, piece by piece; then `layout` and `tail` are known.

    Args:
        spec: The layers.
        layers: What gives the blocks of each layer, in order.
        codec: What to code by; a choice looks at samples of each layer.
        prior: What is known about the mask.
        bases: The masks that the prior refers to.
    """

    def __init__(
        self, spec: MaskSpec, layers: Iterable[Take], codec: AnyCodec, prior: Prior, bases: Sequence[Mask] = ()
    ) -> None:
        self._spec, self._layers, self._codec = spec, layers, get_codec(codec)
        self._prior, self._bases = prior, bases
        self._digits = bytearray()
        self._entries: list[tuple[int, int, int, int, int]] = []
        self._used: dict[Codec, int] = {}

    @property
    def layout(self) -> Blocks:
        """What the row says in the place of a codec."""
        return Blocks(tuple(self._used))

    @property
    def tail(self) -> bytes:
        """The table, which ends the data."""
        return table_bytes(bytes(self._digits), self._entries)

    def __iter__(self) -> Iterator[bytes]:
        for batch in side_by_side(self._jobs()):
            for codec, coded, crc_coded, crc_decoded in batch:
                number = self._used.setdefault(codec, len(self._used))
                self._entries.append((number, len(coded.side), len(coded.payload), crc_coded, crc_decoded))
                yield coded.side
                yield coded.payload
        yield self.tail

    def _jobs(self) -> Iterator[Callable[[], list[_Coded]]]:
        for index, (layer, take) in enumerate(zip(self._spec, self._layers, strict=True)):
            piece = partial(self._piece, index, take)
            how = method(self._codec, _samples(layer, piece, _SAMPLE_DIGITS))
            if how.digits > _MORE_DIGITS:  # of so few bits a sample has mostly what describes it
                how = how.or_as(method(self._codec, _samples(layer, piece, _MORE_DIGITS)))
            cut = Cut.of(layer, how.digits)
            if len(cut) > 1:  # two blocks tell about all
                how = how.seen([piece(cut[len(cut) // 4])(), piece(cut[3 * len(cut) // 4])()])
                cut = Cut.of(layer, how.digits)
            self._digits.append(how.digits)
            for blocks in in_batches(len(cut), cut.step):
                yield partial(_encoded, [piece(cut[block]) for block in blocks], how)

    def _piece(self, index: int, take: Take, block: LayerSpec) -> Callable[[], Piece]:
        words = take(block)
        contexts = cache(partial(self._prior.contexts, self._spec, index, self._bases, block))
        return lambda: Piece(words(), block, contexts)


def _samples(layer: LayerSpec, piece: Callable[[LayerSpec], Callable[[], Piece]], digits: int) -> list[Piece]:
    """One or two pieces of at most 2**digits bits from inside a layer."""
    cut = Cut.of(layer, digits)
    count = 0 if not layer.size else 1 if layer.size < _SAMPLED_BITS else 2
    return [piece(cut[i])() for i in sorted({len(cut) * (2 * i + 1) // (2 * count) for i in range(count)})]


def _encoded(pieces: Sequence[Callable[[], Piece]], how: Method) -> list[_Coded]:
    """Of some blocks."""
    out = []
    for piece in pieces:
        found = piece()
        codec, coded = encode_block(how, found)
        own = zlib.crc32(coded.payload, zlib.crc32(coded.side))
        out.append((codec, coded, own, own if isinstance(codec, Raw) else crc_of(found.words, found.layer)))
    return out
