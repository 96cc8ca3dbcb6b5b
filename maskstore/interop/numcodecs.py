"""The Numcodecs codec "maskstore": Zarr arrays of bool in the entropy coders of this package.

`docs/interop.md`, "Numcodecs", is normative for the bytes of a chunk.
"""

import struct
import zlib
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs import EncodedLayer, codec_from_config, codec_to_json, encode_mask, get_codec
from maskstore.errors import CodecError, CorruptError, LimitError, MaskStoreError, MaskValueError, needing
from maskstore.files import byte_limit, check_claim, parse_json
from maskstore.masks import MAX_LAYER_BITS, Mask, MaskSpec, bits
from maskstore.priors import Uniform

with needing("numcodecs", "maskstore.interop.numcodecs"):
    from numcodecs.abc import Codec
    from numcodecs.compat import ensure_ndarray, ndarray_copy

_VERSION = 1
_HEAD = struct.Struct("<BBIQI")  # version, bytes of codec JSON, bytes of side information, bits, CRC-32


class MaskstoreCodec(Codec):
    """Codes buffers whose bytes are all 0 or 1, such as arrays of bool; other bytes are a MaskValueError.

    Args:
        codec: A maskstore codec by name; "auto" keeps the smallest for each chunk, and the chunk says which it was.
        limit: The most bytes that one chunk may become, where `decode` is not given the place to write them to and the
            default of `maskstore.files.claims` is too low.

    Raises:
        UnknownCodecError: There is no codec of that name.

    Examples:
        >>> import numpy as np
        >>> from maskstore.interop.numcodecs import MaskstoreCodec
        >>> masks = np.random.default_rng(0).random((300, 784)) < 0.05
        >>> codec = MaskstoreCodec()
        >>> chunk = codec.encode(masks)
        >>> print(f"{8 * len(chunk) / masks.size:.2f} bits a value")
        0.29 bits a value
        >>> np.array_equal(codec.decode(chunk), masks.reshape(-1))
        True
    """

    codec_id: ClassVar[str] = "maskstore"

    def __init__(self, codec: str = "auto", limit: int | None = None) -> None:
        get_codec(codec)
        self.codec, self.limit = codec, byte_limit(limit)

    def encode(self, buf: Any) -> bytes:
        """Bytes of a chunk; elements are taken in memory order (C order if the buffer is not contiguous).

        LimitError for a chunk so large and so sparse that `decode` would refuse it.
        """
        array = ensure_ndarray(buf)
        if array.dtype.hasobject:
            raise MaskValueError("chunk: expected a buffer of 0 and 1, found Python objects")
        values = np.ascontiguousarray(array.reshape(-1, order="A")).view(np.uint8)
        if values.size and values.max() > 1:
            raise MaskValueError(f"chunk: expected bytes 0 and 1, found {values.max()}")
        mask = Mask.from_dense({"chunk": values.view(np.bool_)})
        codec, (coded,) = encode_mask(self.codec, mask, Uniform())
        config = codec_to_json(codec).encode()
        packed = mask.layer_bytes("chunk").tobytes()
        head = _HEAD.pack(_VERSION, len(config), len(coded.side), values.size, _check(values.size, packed))
        chunk = head + config + coded.side + coded.payload
        check_claim("chunk", values.size, len(chunk), self.limit)
        return chunk

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The bytes of the chunk, `(n,)` uint8 of 0 and 1, also written into `out` if given.

        CorruptError for bytes that `encode` did not write, for a few bytes that claim to be many, and for an `out` of
        another size, before anything is allocated.
        """
        data = ensure_ndarray(buf).reshape(-1, order="A").view(np.uint8).tobytes()
        if len(data) < _HEAD.size:
            raise CorruptError(f"chunk: expected at least {_HEAD.size} bytes, found {len(data)}")
        version, config_bytes, side_bytes, size, checksum = _HEAD.unpack_from(data)
        rest = data[_HEAD.size :]
        if version != _VERSION or size > MAX_LAYER_BITS or config_bytes + side_bytes > len(rest):
            raise CorruptError("chunk: expected a header of version 1 that fits its bytes, found another")
        if out is not None and ensure_ndarray(out).nbytes != size:
            raise CorruptError(f"chunk: expected out to hold {size} bytes, found {ensure_ndarray(out).nbytes}")
        if out is None:
            try:
                check_claim("chunk", size, len(data), self.limit)
            except LimitError as error:
                raise CorruptError(str(error)) from None
        values = _decoded(rest, config_bytes, side_bytes, size, checksum)
        return ndarray_copy(values, out)

    def get_config(self) -> dict[str, Any]:
        """`{"id": "maskstore", "codec": ...}`, and the limit if there is one."""
        limited = {} if self.limit is None else {"limit": self.limit}
        return {"id": self.codec_id, "codec": self.codec, **limited}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The codec of a configuration, with or without the id; CodecError for a setting that there is not."""
        known = {key: value for key, value in config.items() if key in ("codec", "limit")}
        if unknown := sorted(config.keys() - {*known, "id"}):
            raise CodecError(f"codec {cls.codec_id}: expected the settings codec and limit, found {unknown[0]!r:.60}")
        return cls(**known)

    def __repr__(self) -> str:
        limit = "" if self.limit is None else f", limit={self.limit}"
        return f"{type(self).__name__}(codec={self.codec!r}{limit})"


def _decoded(rest: bytes, config_bytes: int, side_bytes: int, size: int, checksum: int) -> NDArray[np.uint8]:
    spec = MaskSpec({"chunk": (size,)})
    try:
        codec = codec_from_config(parse_json(rest[:config_bytes].decode(errors="replace")))
        coded = EncodedLayer(rest[config_bytes : config_bytes + side_bytes], rest[config_bytes + side_bytes :])
        words = codec.decode_layer(coded, spec["chunk"], lambda: Uniform().contexts(spec, 0))
    except CorruptError:
        raise
    except MaskStoreError as error:
        raise CorruptError(f"chunk: {error}") from None
    packed = bits.as_bytes(words)[: spec["chunk"].bytes].tobytes()
    if _check(size, packed) != checksum:
        raise CorruptError(f"chunk: expected CRC-32 {checksum:08x}, found other bits")
    return bits.unpack(words, size).view(np.uint8)


def _check(size: int, packed: bytes) -> int:
    """CRC-32 over the number of bits, then the packed bits."""
    return zlib.crc32(packed, zlib.crc32(struct.pack("<Q", size)))
