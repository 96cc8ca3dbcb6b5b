"""`ans`: entropy coding under one static probability per context, measured for each layer.

Side information: one byte `log2(lanes) << 4 | shift`, then the probability table. `shift` merges 2**shift neighbouring
levels of the prior's contexts; it is the one that gives the shortest description, table included. Payload: 32-bit
little-endian words of the rANS coder. See `docs/format.md`, "Codec ans".
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs import tables
from maskstore.codecs.base import Codec, ContextSource, EncodedLayer
from maskstore.errors import CorruptError
from maskstore.priors import Contexts
from maskstore.spec import LayerSpec

_MANY_BITS = 1 << 20  # from here on four lanes are worth their 24 bytes


@dataclass(frozen=True)
class Ans(Codec):
    """Context-conditional coding by binary rANS; within a fraction of a per cent of the contexts' entropy."""

    id: ClassVar[str] = "ans"

    def encode_layer(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Measure, choose the table, code."""
        if layer.size == 0:
            return EncodedLayer(b"", b"")
        from maskstore.codecs import rans

        known = contexts()
        counts = rans.count(known.ids, words, known.levels * known.classes)
        shift, points, bits = _choose_table(counts, known)
        lanes = 4 if layer.size >= _MANY_BITS else 1
        payload = rans.encode(known.ids, words, _probabilities(points, shift, known), lanes, bits)
        return EncodedLayer(bytes([(lanes.bit_length() - 1) << 4 | shift]) + tables.write(points), payload)

    def decode_layer(self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource) -> NDArray[np.uint64]:
        """The coder must end in its start state with every word used, or the bytes are corrupt."""
        words = np.zeros(layer.words, dtype=np.uint64)
        if layer.size == 0:
            if coded.side or coded.payload:
                raise CorruptError(f"layer {layer.name!r}: expected no bytes for no bits, found some")
            return words
        if not coded.side or coded.side[0] >> 4 not in (0, 2) or len(coded.payload) % 4:
            raise CorruptError(f"layer {layer.name!r}: expected ans side information and whole words, found neither")
        # the cheapest bit costs log2(65536 / 65535) bits: a longer layer cannot hide in so few bytes
        if layer.size > (len(coded.payload) * 8 + 64) * 45426:
            raise CorruptError(f"layer {layer.name!r}: expected more than {len(coded.payload)} bytes "
                               f"for {layer.size} bits")  # fmt: skip
        from maskstore.codecs import rans

        known = contexts()
        shift = coded.side[0] & 15
        if known.levels >> shift == 0:
            raise CorruptError(
                f"layer {layer.name!r}: expected to merge at most {known.levels} levels, found 2**{shift}"
            )
        points = tables.read(coded.side[1:], (known.levels >> shift) * known.classes)
        stream = np.frombuffer(coded.payload, dtype="<u4").astype(np.uint32, copy=False)
        if not rans.decode(known.ids, _probabilities(points, shift, known), 1 << (coded.side[0] >> 4), stream, words):
            raise CorruptError(f"layer {layer.name!r}: expected the coder to end in its start state, found another")
        return words


def _choose_table(counts: NDArray[np.int64], known: Contexts) -> tuple[int, NDArray[np.int64], float]:
    """The merging of levels and the walk with the fewest bits in total: (shift, points, bits)."""
    best: tuple[int, NDArray[np.int64], float] | None = None
    for shift in range(known.levels.bit_length()):
        merged = counts.reshape(known.levels >> shift, 1 << shift, known.classes, 2).sum(axis=1)
        points, bits = tables.fit(merged.transpose(1, 0, 2).reshape(-1, 2))
        if best is None or bits < best[2]:
            best = (shift, points, bits)
    assert best is not None
    return best


def _probabilities(points: NDArray[np.int64], shift: int, known: Contexts) -> NDArray[np.uint32]:
    """P(1) of every unmerged context id in units of 2**-16, shape `(levels * classes,)` uint32."""
    by_class = tables.point_probabilities()[points].reshape(known.classes, known.levels >> shift)
    return np.ascontiguousarray(np.repeat(by_class, 1 << shift, axis=1).T).reshape(-1)
