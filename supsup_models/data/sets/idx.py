"""Reader of IDX files, the format of MNIST and its relatives; plain or gzipped.

An IDX file is two zero bytes, a type code, the number of dimensions, that many big-endian 32-bit sizes, and the values
in C order, big-endian. A file is not trusted: what its header declares is bounded before memory is taken for it, and
must be exactly what follows. gzip is recognised by its first bytes, not by the file's name.
"""

import gzip
import hashlib
import io
import os
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import IrregularFileError
from maskstore.files import open_regular
from supsup_models.errors import DataFormatError, DataNotFoundError

DEFAULT_MAX_BYTES = 1 << 28  # 256 MiB, five times MNIST's training images
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMENSIONS = 8
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class IdxContent(NamedTuple):
    """An IDX file's values, in native byte order, and the SHA-256 (hex) of the whole file after decompression."""

    values: NDArray[np.generic]
    sha256: str


def read_idx(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> IdxContent:
    """Reads the IDX file at `path`, plain or gzipped; the values have the shape and type that the header declares.

    `max_bytes` bounds the decompressed values, and so the memory used. Raises `DataNotFoundError` if the file cannot be
    opened and `DataFormatError` if it is no IDX file, is cut short, damaged, longer than declared or above the bound.
    """
    try:
        with open_regular(path, what="a file") as raw:
            zipped = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            if not zipped:
                return _read(path, raw, max_bytes, os.fstat(raw.fileno()).st_size)
            with gzip.GzipFile(fileobj=raw) as unzipped:
                return _read(path, unzipped, max_bytes, None)
    except EOFError:
        raise DataFormatError(f"{path}: expected a whole gzip file, found one that is cut short") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataFormatError(f"{path}: expected an intact gzip file, found a damaged one") from None
    except IrregularFileError as error:
        found = str(error).removeprefix(f"{path}: ")
        raise DataNotFoundError(f"{path}: cannot be read: {found}") from None
    except OSError as error:
        raise DataNotFoundError(f"{path}: cannot be read: expected a file, found {error.strerror!r}") from None


def _read(path: Path, file: io.BufferedIOBase, max_bytes: int, file_bytes: int | None) -> IdxContent:
    """`file_bytes` is the size of a plain file, known beforehand; None for a gzipped one."""
    digest = hashlib.sha256()
    dtype, shape = _read_header(path, file, digest)
    declared = prod(shape, start=dtype.itemsize)  # Python integers: hostile sizes cannot overflow
    described = f"{' x '.join(map(str, shape))} values of {dtype.itemsize} bytes ({declared} bytes)"
    if declared > max_bytes:
        raise DataFormatError(f"{path}: expected at most {max_bytes} bytes of values, found a header for {described}")
    header_bytes = 4 + 4 * len(shape)
    if file_bytes is not None and file_bytes - header_bytes != declared:
        raise DataFormatError(f"{path}: expected {described}, found {file_bytes - header_bytes} bytes")

    buffer = np.empty(declared, dtype=np.uint8)
    found = file.readinto(buffer.data)  # less only at the end of the file
    if found < declared:
        raise DataFormatError(f"{path}: expected {described}, found {found} bytes")
    if file.read(1):  # at the end of a gzip file, this also checks its CRC
        raise DataFormatError(f"{path}: expected {described}, found more")
    digest.update(buffer.data)
    values = buffer.view(dtype).reshape(shape)
    return IdxContent(values.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest())


def _read_header(path: Path, file: io.BufferedIOBase, digest: "hashlib._Hash") -> tuple[np.dtype, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= _MAX_DIMENSIONS:
        raise DataFormatError(
            f"{path}: expected an IDX file (0, 0, a type code, 1 to {_MAX_DIMENSIONS} dimensions), "
            f"found {f'the bytes {magic.hex(chr(32))}' if magic else 'an empty file'}"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataFormatError(f"{path}: expected {magic[3]} sizes of 4 bytes, found {len(sizes)} bytes")
    digest.update(magic + sizes)
    return np.dtype(_TYPES[magic[2]]), tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
