"""`ans`: entropy coding under one static probability per context, measured for each layer.

Side information: one byte `log2(lanes) << 4 | form`, then the probability table of that form, the one that gives the
shortest description, table included (`maskstore.codecs.tables`). Payload: 32-bit
little-endian words of the rANS coder. See `docs/format.md`, "Codec ans".
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs import tables
from maskstore.codecs.base import ContextSource, EncodedLayer, EntropyCodec
from maskstore.errors import CorruptError
from maskstore.masks import LayerSpec
from maskstore.priors import Contexts

_MANY_BITS = 1 << 20  # from here on four lanes are worth their 24 bytes


@dataclass(frozen=True)
class Ans(EntropyCodec):
    """Context-conditional coding by binary rANS; within a fraction of a per cent of the contexts' entropy."""

    id: ClassVar[str] = "ans"

    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Measure, choose the table, code."""
        from maskstore.codecs.coders import rans

        known = contexts()
        counts = rans.count(known.ids, words, known.levels * known.classes)
        table, bits = tables.choose(counts, known)
        lanes = 4 if layer.size >= _MANY_BITS else 1
        payload = rans.encode(known.ids, words, _probabilities(table, known), lanes, bits)
        return EncodedLayer(bytes([(lanes.bit_length() - 1) << 4 | table.form]) + table.write(), payload)

    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """The coder must end in its start state with every word used, or the bytes are corrupt."""
        if not coded.side or coded.side[0] >> 4 not in (0, 2) or len(coded.payload) % 4:
            raise CorruptError(f"layer {layer.name!r}: expected ans side information and whole words, found neither")
        # the cheapest bit costs log2(65536 / 65535) bits: a longer layer cannot hide in so few bytes
        if layer.size > (len(coded.payload) * 8 + 64) * 45426:
            raise CorruptError(f"layer {layer.name!r}: expected more than {len(coded.payload)} bytes "
                               f"for {layer.size} bits")  # fmt: skip
        from maskstore.codecs.coders import rans

        known = contexts()
        table = tables.read_table(coded.side[0] & 15, coded.side[1:], known)
        stream = np.frombuffer(coded.payload, dtype="<u4").astype(np.uint32, copy=False)
        if not rans.decode(known.ids, _probabilities(table, known), 1 << (coded.side[0] >> 4), stream, words):
            raise CorruptError(f"layer {layer.name!r}: expected the coder to end in its start state, found another")


def estimate_bits(words: NDArray[np.uint64], known: Contexts) -> float:
    """What `Ans` would need for a layer of at least one bit, in bits; within a few bytes of what it then takes."""
    from maskstore.codecs.coders import rans

    _, total = tables.choose(rans.count(known.ids, words, known.levels * known.classes), known)
    return total + 8 + 32 * (7 if known.ids.size >= _MANY_BITS else 2)


def _probabilities(table: tables.Table, known: Contexts) -> NDArray[np.uint32]:
    """P(1) of every context id in units of 2**-16, shape `(levels * classes,)` uint32."""
    return tables.point_probabilities()[table.points(known)]
