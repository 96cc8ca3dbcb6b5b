"""`raw`: the packed bits as they are, ceil(size / 8) bytes."""

import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import Codec, ContextSource, EncodedLayer, Plan
from maskstore.errors import CorruptError, MaskValueError
from maskstore.masks import LayerSpec, bits


@dataclass(frozen=True)
class Raw(Codec):
    """Bit-packing, one bit a parameter: never smaller, always the fastest.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Mask, Uniform
        >>> from maskstore.codecs import Raw, encode_mask
        >>> mask = Mask.from_dense({"fc1": np.array([[1, 0, 0], [1, 1, 0]])})
        >>> codec, (layer,) = encode_mask(Raw(), mask, Uniform())
        >>> layer.payload.hex()
        '19'
    """

    id: ClassVar[str] = "raw"

    def encode_layer(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """The layer's packed bytes."""
        return EncodedLayer(b"", bits.as_bytes(words)[: layer.bytes].tobytes())

    def plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """Its bits are the layer's own."""
        return Plan(8.0 * layer.bytes, lambda: self.encode_layer(words, layer, contexts))

    def decode_layer(self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource) -> NDArray[np.uint64]:
        """Words from the packed bytes."""
        return words_from_bytes(coded.payload, coded.side, layer)

    def decode_into(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """Copied once where the words are bytes in file order already."""
        if coded.side or len(coded.payload) != layer.bytes or sys.byteorder != "little":
            super().decode_into(coded, layer, contexts, words)
            return
        words.view(np.uint8)[: layer.bytes] = np.frombuffer(coded.payload, dtype=np.uint8)
        try:
            bits.check_padding(words, layer.size)
        except MaskValueError as error:
            raise CorruptError(f"layer {layer.name!r}: {error}") from None


def words_from_bytes(packed: bytes, side: bytes, layer: LayerSpec) -> NDArray[np.uint64]:
    """Packed words of a layer from its bytes, for codecs that have no side information."""
    if side:
        raise CorruptError(f"layer {layer.name!r}: expected no side information, found {len(side)} bytes")
    try:
        return bits.from_bytes(packed, layer.size)
    except MaskValueError as error:
        raise CorruptError(f"layer {layer.name!r}: {error}") from None
