"""`pattern`: the regularities that pruning leaves: N of M, blocks, empty lines, lines of different densities.

Side information: the order in which the bits are coded, the lines and places that are kept, the tiles that one bit
stands for, and a few weights for each class of lines (`maskstore.codecs.coders.pattern_tables`). Payload: 32-bit
little-endian words of a rANS coder of bytes. See `docs/format-codecs.md`, "Codec pattern".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import ContextSource, EncodedLayer, EntropyCodec, Piece, Plan, Planner
from maskstore.errors import CorruptError, MaskValueError
from maskstore.masks import LayerSpec, bits

_COLUMN_BITS = 1 << 10  # of a column in one block


@dataclass(frozen=True)
class Pattern(EntropyCodec):
    """Structured coding, at more than 10⁹ bits a second; on independent bits it is as small as `ans`.

    It knows no prior. Where rows, columns or blocks have densities of their own, or N of every M neighbours along some
    dimension are kept, it takes the entropy of that pattern.

    Examples:
        Two of every four weights kept along the inputs: log2(6) / 4 = 0.65 bits a parameter.

        >>> import numpy as np
        >>> from maskstore import Mask, Uniform
        >>> from maskstore.codecs import Pattern, encode_mask, size_of
        >>> scores = np.random.default_rng(0).random((512, 256, 4))
        >>> kept = scores.argsort(axis=2).argsort(axis=2) >= 2
        >>> mask = Mask.from_dense({"fc1": kept.reshape(512, 1024)})
        >>> round(8 * size_of(encode_mask(Pattern(), mask, Uniform())[1]) / mask.spec.bits, 2)
        0.65
    """

    id: ClassVar[str] = "pattern"
    weight: ClassVar[int] = 4  # the coded bytes and their classes beside the bits

    def _plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """What is found in the layer tells the bits."""
        from maskstore.codecs.coders import pattern_plan

        return pattern_plan.plan(words, layer)

    def planner(self, blocks: Sequence[Piece]) -> tuple[Planner, int]:
        """Looks in each block only for what these few have.

        Where columns have densities of their own, a block says so of each column; long columns make that cheap.
        """
        from maskstore.codecs.coders import pattern_plan

        dimensions = {len(block.layer.shape) for block in blocks}
        if not blocks or len(dimensions) > 1:
            return self.plan, 0
        known = pattern_plan.together([pattern_plan.look(block.words, block.layer) for block in blocks])

        def planned(words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
            return pattern_plan.plan(words, layer, known)

        shape = blocks[0].layer.shape
        by_columns = len(shape) > 1 and 1 in known.orders and known.uneven
        return planned, (_COLUMN_BITS * prod(shape[1:]) - 1).bit_length() if by_columns else 0

    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        from maskstore.codecs.coders import pattern_plan

        return pattern_plan.plan(words, layer).encode()

    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """The coder must end in its start state with every word used, or the bytes are corrupt."""
        from maskstore.codecs.coders import byte_rans, pattern_form, pattern_tables

        form, lanes = pattern_form.read(coded.side, layer)
        count, places = form.arrangement.shape
        size = (count * places + 7) // 8
        if len(coded.payload) % 4 or bool(size) != bool(coded.payload):
            raise CorruptError(f"layer {layer.name!r}: expected whole words of 4 bytes for {size} coded bytes, "
                               f"found {len(coded.payload)}")  # fmt: skip
        if not size:
            return
        # the cheapest byte costs log2(65536 / 65535) bits: a longer layer cannot hide in so few bytes
        if size > (len(coded.payload) * 8 + 64) * 45426:
            raise CorruptError(f"layer {layer.name!r}: expected bytes enough for {size} coded bytes, "
                               f"found {len(coded.payload)}")  # fmt: skip
        data = np.zeros(8 * ((size + 7) // 8), dtype=np.uint8)
        classes = pattern_form.classes_of_bytes(form.line_classes, places, size, len(form.weights) - 1)
        tables = pattern_tables.tables(form.group, form.weights)
        if not byte_rans.decode(coded.payload, classes, tables, lanes, data[:size]):
            raise CorruptError(f"layer {layer.name!r}: expected the coder to end in its start state, found another")
        found = data.view("<u8").astype(np.uint64, copy=False)
        try:
            bits.check_padding(found, count * places)
        except MaskValueError as error:
            raise CorruptError(f"layer {layer.name!r}: {error}") from None
        form.arrangement.spread(found, words)
