"""`auto`: not a format but a choice; the record names the codec that was chosen."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore import bits
from maskstore.codecs.ans import Ans
from maskstore.codecs.base import Codec, ContextSource, EncodedLayer
from maskstore.codecs.raw import Raw
from maskstore.codecs.zstd import Zstd
from maskstore.errors import CodecError
from maskstore.mask import Mask
from maskstore.priors import Prior

_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class Auto(Codec):
    """Codes a mask with `ans`, and with `zstd` where a sample says that it could win, and keeps the smallest."""

    id: ClassVar[str] = "auto"

    def encode(self, mask: Mask, prior: Prior) -> tuple[Codec, list[EncodedLayer]]:
        """The codec with the fewest bytes for this mask, and the coded layers."""
        candidates: list[Codec] = [Raw(), Ans()]
        coded = [(codec, encode_mask(codec, mask, prior)) for codec in candidates]
        smallest = min(size_of(layers) for _, layers in coded)
        if _zstd_ratio(mask) < 1.1 * smallest / max(1, mask.spec.bits // 8):
            coded.append((Zstd(), encode_mask(Zstd(), mask, prior)))
        return min(coded, key=lambda candidate: size_of(candidate[1]))

    def encode_layer(self, words: NDArray[np.uint64], layer: object, contexts: ContextSource) -> EncodedLayer:
        """Auto chooses for a whole mask: call `encode`."""
        raise CodecError("codec auto: expected a whole mask to choose for, found a single layer")

    def decode_layer(self, coded: EncodedLayer, layer: object, contexts: ContextSource) -> NDArray[np.uint64]:
        """Nothing is ever stored under this id."""
        raise CodecError("codec auto: expected the codec that was chosen, found auto in a record")


def encode_mask(codec: Codec, mask: Mask, prior: Prior) -> list[EncodedLayer]:
    """All layers of a mask under one codec that codes layer by layer."""
    return [
        codec.encode_layer(mask.words[layer.packed], layer, lambda index=index: prior.contexts(mask.spec, index))  # type: ignore[misc]
        for index, layer in enumerate(mask.spec)
    ]


def size_of(layers: list[EncodedLayer]) -> int:
    """Bytes of side information and payload together."""
    return sum(len(layer.side) + len(layer.payload) for layer in layers)


def _zstd_ratio(mask: Mask) -> float:
    """Compressed size of a sample from the middle of the mask, as a fraction of its packed size."""
    import zstandard

    packed = bits.as_bytes(mask.words)
    start = max(0, (packed.size - _SAMPLE_BYTES) // 2)
    sample = packed[start : start + _SAMPLE_BYTES].tobytes()
    return len(zstandard.ZstdCompressor(level=3).compress(sample)) / max(1, len(sample))
