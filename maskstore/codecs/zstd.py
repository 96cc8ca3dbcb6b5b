"""`zstd`: Zstandard over the packed bytes; pays where masks repeat byte patterns, not on independent bits."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import Codec, ContextSource, EncodedLayer
from maskstore.codecs.raw import words_from_bytes
from maskstore.errors import CodecError, CorruptError
from maskstore.masks import LayerSpec, bits


@dataclass(frozen=True)
class Zstd(Codec):
    """One Zstandard frame a layer (RFC 8878), with its content size in the frame header.

    Examples:
        It pays where a mask repeats itself:

        >>> import numpy as np
        >>> from maskstore import Mask, Uniform
        >>> from maskstore.codecs import Zstd, encode_mask, size_of
        >>> mask = Mask.from_dense({"fc1": np.tile(np.random.default_rng(0).random(777) < 0.5, (200, 1))})
        >>> _, layers = encode_mask(Zstd(level=19), mask, Uniform())
        >>> size_of(layers) < 0.05 * mask.nbytes
        True
    """

    level: int = 9
    """Compression level, 1 to 22; decoding does not depend on it."""

    id: ClassVar[str] = "zstd"

    def __post_init__(self) -> None:
        if isinstance(self.level, bool) or not isinstance(self.level, int) or not 1 <= self.level <= 22:
            raise CodecError(f"codec zstd: expected a level from 1 to 22, found {self.level!r:.40}")

    def encode_layer(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Compress the layer's packed bytes."""
        import zstandard

        packed = bits.as_bytes(words)[: layer.bytes].tobytes()
        return EncodedLayer(b"", zstandard.ZstdCompressor(level=self.level).compress(packed))

    def decode_layer(self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource) -> NDArray[np.uint64]:
        """Decompress; the declared content size is checked before anything is allocated."""
        import zstandard

        try:
            declared = zstandard.frame_content_size(coded.payload)
            if declared != layer.bytes:
                raise CorruptError(f"layer {layer.name!r}: expected {layer.bytes} bytes of content, found {declared}")
            packed = zstandard.ZstdDecompressor().decompress(coded.payload, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptError(f"layer {layer.name!r}: expected a Zstandard frame, found {error}") from None
        return words_from_bytes(packed, coded.side, layer)
