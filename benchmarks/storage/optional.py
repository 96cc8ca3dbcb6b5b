"""General compressors and image formats, as far as they are installed: xz, zpaq, JPEG XL, NNC.

None of them is needed by anything else. `why_absent` says what to install for one that is not there.
"""

import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.storage import jbig2
from benchmarks.storage.formats import Format, each_mask, packed, unpacked
from maskstore import Mask, MaskSpec

_LENGTH = struct.Struct("<I")
_XZ = {"format": lzma.FORMAT_RAW, "filters": [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]}


@dataclass(frozen=True)
class Optional:
    """A format that may not be installed."""

    format: Format
    needs: str = ""
    """The module or program that it needs; "" for nothing beyond the benchmarks' own packages."""
    install: str = ""
    program: bool = False
    """Whether it is a program, whose processor time is not this process's."""

    @property
    def why_absent(self) -> str:
        """What is missing, and how to get it; "" if nothing is."""
        there = not self.needs or find_spec(self.needs) is not None or shutil.which(self.needs) is not None
        return "" if there else f"{self.format.title}: left out, {self.needs} is not installed ({self.install})"


def by_layer(
    title: str, encode: Callable[[NDArray[np.bool_]], bytes], decode: Callable[[bytes, tuple[int, int]], NDArray]
) -> Format:
    """A format of matrices: each layer as `(out, everything else)`, its bytes after their length in 4 bytes."""

    def encode_mask(mask: Mask) -> bytes:
        pieces = [encode(_matrix(mask.layer(layer.name))) for layer in mask.spec]
        return b"".join(_LENGTH.pack(len(piece)) + piece for piece in pieces)

    def decode_mask(data: bytes, spec: MaskSpec) -> Mask:
        found, start = {}, 0
        for layer in spec:
            (length,) = _LENGTH.unpack_from(data, start)
            start += _LENGTH.size
            matrix = decode(data[start : start + length], (layer.shape[0], layer.size // layer.shape[0]))
            found[layer.name] = matrix.reshape(layer.shape)
            start += length
        return Mask.from_dense(found, spec)

    return each_mask(title, encode_mask, decode_mask)


def _matrix(layer: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return layer.reshape(len(layer), -1)


def _xz(mask: Mask) -> bytes:
    return lzma.compress(packed(mask), **_XZ)  # type: ignore[arg-type]


def _from_xz(data: bytes, spec: MaskSpec) -> Mask:
    return unpacked(lzma.decompress(data, **_XZ), spec)  # type: ignore[arg-type]


def _zpaq(mask: Mask) -> bytes:
    """An archive of one file with a byte for each bit, which its models take better than packed bits."""
    with TemporaryDirectory() as folder:
        Path(folder, "m").write_bytes(mask.flat().astype(np.uint8).tobytes())
        subprocess.run(
            ["zpaq", "a", "m.zpaq", "m", "-m5", "-noattributes"], cwd=folder, check=True, capture_output=True
        )
        return Path(folder, "m.zpaq").read_bytes()


def _from_zpaq(data: bytes, spec: MaskSpec) -> Mask:
    with TemporaryDirectory() as folder:
        Path(folder, "m.zpaq").write_bytes(data)
        subprocess.run(["zpaq", "x", "m.zpaq"], cwd=folder, check=True, capture_output=True)
        return Mask.from_flat(np.frombuffer(Path(folder, "m").read_bytes(), dtype=np.bool_), spec)


def _jpegxl(layer: NDArray[np.bool_]) -> bytes:
    """The layer as an image of one grey channel, lossless, at the effort that takes longest."""
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(layer.astype(np.uint8), lossless=True, effort=9))


def _from_jpegxl(data: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    import imagecodecs

    return np.asarray(imagecodecs.jpegxl_decode(data)).reshape(shape) > 0


def _constriction(layer: NDArray[np.bool_]) -> bytes:
    """ANS under one probability for the layer, which goes before in 4 bytes."""
    import constriction

    density = _LENGTH.pack(round(float(layer.mean()) * 0xFFFF_FFFF))
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(layer.reshape(-1).astype(np.int32), _bernoulli(density))
    return density + coder.get_compressed().astype("<u4").tobytes()


def _from_constriction(data: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    import constriction

    coder = constriction.stream.stack.AnsCoder(np.frombuffer(data[4:], dtype="<u4").astype(np.uint32))
    return np.asarray(coder.decode(_bernoulli(data[:4]), shape[0] * shape[1])).reshape(shape) > 0


def _bernoulli(density: bytes) -> object:
    import constriction

    share = _LENGTH.unpack(density)[0] / 0xFFFF_FFFF
    return constriction.stream.model.Bernoulli(min(max(share, 1e-6), 1 - 1e-6), perfect=False)


@cache
def _cabac() -> Any:
    """The coder of NNCodec, found beside the package: importing that needs pandas and torchvision."""
    package = find_spec("nncodec")
    assert package is not None
    assert package.origin is not None
    path = next(Path(package.origin).parent.glob("extensions/deepCABAC*.so"))
    spec = spec_from_file_location("deepCABAC", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _nncodec(layer: NDArray[np.bool_]) -> bytes:
    """The layer as integers 0 and 1, the coder's parameters optimised for it, without the headers of a bitstream."""
    coder = _cabac().Encoder()
    coder.initCtxModels(1, 1)
    rows, off, nothing = np.zeros(len(layer), np.int32), _cabac().HdspMode.AlwaysOff, np.zeros(0, np.int8)
    coder.encodeLayer(layer.astype(np.int32), 0, 0, 0, 0, 0, rows, off, nothing, 0, 0)
    return np.asarray(coder.finish()).astype(np.uint8).tobytes()


def _from_nncodec(data: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    coder, stream = _cabac().Decoder(), np.frombuffer(data, dtype=np.uint8)
    coder.setStream(stream)
    coder.initCtxModels(1)
    found = np.zeros(shape, dtype=np.int32)
    coder.decodeLayer(found, 0, 0, 0, 0, _cabac().HdspMode.AlwaysOff, np.zeros(0, np.int8), 0, 0)
    return found > 0


OPTIONAL: Mapping[str, Optional] = MappingProxyType(
    {
        "constriction": Optional(
            by_layer("constriction's ANS, a probability for each layer", _constriction, _from_constriction),
            "constriction",
            "pip install constriction",
        ),
        "xz": Optional(each_mask("xz (LZMA2), preset 9e, of the packed bits", _xz, _from_xz)),
        "zpaq": Optional(
            each_mask("zpaq, method 5, of a byte for each bit", _zpaq, _from_zpaq),
            "zpaq",
            "apt-get install zpaq",
            program=True,
        ),
        "jpeg-xl": Optional(
            by_layer("JPEG XL, lossless, effort 9", _jpegxl, _from_jpegxl), "imagecodecs", "pip install imagecodecs"
        ),
        "nncodec": Optional(
            by_layer("NNC (ISO/IEC 15938-17), its DeepCABAC alone", _nncodec, _from_nncodec),
            "nncodec",
            "pip install --no-deps nncodec",
        ),
        "jbig2-contexts": Optional(by_layer("contexts of JBIG2, range coder", jbig2.encode, jbig2.decode)),
    }
)
"""By name; the order is that of the tables."""
