"""The Zarr 3 codec "maskstore": arrays of bool in the entropy coders of this package.

Zarr finds it through its entry point. A chunk has the same bytes as one of the Numcodecs codec (`docs/interop.md`).
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from maskstore.errors import CodecError, MaskValueError, needing
from maskstore.interop.numcodecs import MaskstoreCodec

with needing("zarr", "maskstore.interop.zarr"):
    from zarr.abc.codec import ArrayBytesCodec


@dataclass(frozen=True)
class MaskstoreZarrCodec(ArrayBytesCodec):
    """Serialises chunks of bool: the `serializer` of `zarr.create_array(..., zarr_format=3)`.

    Args:
        codec: A maskstore codec by name; "auto" keeps the smallest for each chunk, and the chunk says which it was.

    Raises:
        UnknownCodecError: There is no codec of that name.

    Examples:
        >>> import numpy as np, zarr
        >>> from maskstore.interop.zarr import MaskstoreZarrCodec
        >>> masks = np.random.default_rng(0).random((4, 300, 784)) < 0.05
        >>> how = {"chunks": (1, 300, 784), "dtype": bool, "compressors": None, "zarr_format": 3}
        >>> array = zarr.create_array({}, shape=masks.shape, serializer=MaskstoreZarrCodec(), **how)
        >>> array[:] = masks
        >>> np.array_equal(array[:], masks), f"{8 * array.nbytes_stored() / masks.size:.2f} bits a value"
        (True, '0.29 bits a value')
    """

    is_fixed_size = False
    codec: str = "auto"

    def __post_init__(self) -> None:
        MaskstoreCodec(self.codec)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The codec of a configuration; CodecError for a setting that there is not."""
        config = dict(data.get("configuration") or {})
        if unknown := sorted(config.keys() - {"codec"}):
            raise CodecError(f"codec maskstore: expected the setting codec, found {unknown[0]!r:.60}")
        return cls(**config)

    def to_dict(self) -> dict[str, Any]:
        """`{"name": "maskstore", "configuration": {"codec": ...}}`."""
        return {"name": MaskstoreCodec.codec_id, "configuration": {"codec": self.codec}}

    def evolve_from_array_spec(self, array_spec: Any) -> Self:
        """This codec, if the array is of bool; MaskValueError otherwise."""
        dtype = array_spec.dtype.to_native_dtype()
        if dtype != np.bool_:
            raise MaskValueError(f"codec maskstore: expected an array of bool, found {dtype}")
        return self

    def compute_encoded_size(self, input_byte_length: int, _: Any) -> int:
        """Not known before the bits are."""
        raise NotImplementedError

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        values = np.ascontiguousarray(chunk_array.as_numpy_array())
        chunk = await asyncio.to_thread(MaskstoreCodec(self.codec).encode, values)
        return chunk_spec.prototype.buffer.from_bytes(chunk)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        values = np.empty(chunk_spec.shape, dtype=np.bool_)  # says how large a chunk may become
        await asyncio.to_thread(MaskstoreCodec(self.codec).decode, chunk_bytes.to_bytes(), values)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(values)
