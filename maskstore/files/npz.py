"""`.npy` and `.npz` files: read without ever unpickling, written whole or not at all.

numpy's own reader allocates what a header claims before it looks at the data, its `.npz` mapping confuses the members
`a.npy` and `a.npy.npy`, and its writer takes no array called `file`; hence these.
"""

import re
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import BankNotFoundError, ForeignFileError, IrregularFileError, MaskStoreError, one_line
from maskstore.files.atomic import replacing
from maskstore.files.claims import check_claim, check_table
from maskstore.files.regular import open_regular
from maskstore.files.stopping import pieces

_MAX_HEADER = 10_000
_PIECE = 1 << 26
_DEFLATE_RATIO = 1040  # deflate cannot shrink further than 1032 : 1
_SAFE_PART = re.compile(r"(?!\.{0,2}$)[^\x00-\x1f\x7f\\:]+")


def read_npy(stream: IO[bytes], size: int, what: str) -> NDArray[Any]:
    """One array of bools, integers or floats from a stream of exactly `size` bytes; ForeignFileError otherwise."""
    start = stream.read(12)  # magic, version, and the header's length
    count = {b"\1\0": 2, b"\2\0": 4}.get(start[6:8], 0)  # its bytes
    if start[:6] != b"\x93NUMPY" or len(start) < 12 or not count:
        raise ForeignFileError(f"{what}: expected .npy version 1 or 2, found {start[:8]!r}")
    length = int.from_bytes(start[8 : 8 + count], "little")
    if length > min(size, _MAX_HEADER):
        raise ForeignFileError(f"{what}: expected an .npy header, found other bytes")
    try:
        shape, fortran, dtype = _described(start + stream.read(max(0, 8 + count + length - len(start))))
    except Exception:  # the header is evaluated as Python literals, which fails in many ways
        raise ForeignFileError(f"{what}: expected an .npy header, found other bytes") from None
    if dtype.hasobject:
        raise ForeignFileError(f"{what}: expected plain arrays, found Python objects, which only unpickling could read")
    if dtype.kind not in "biuf":
        raise ForeignFileError(f"{what}: expected bools, integers or floats, found dtype {dtype}")
    found = size - stream.tell()
    if any(type(n) is not int or n < 0 for n in shape) or prod(shape) * dtype.itemsize != found:
        raise ForeignFileError(f"{what}: expected the bytes of a {dtype} array of shape {shape}, found {found} bytes")
    data, read = np.empty(found, dtype=np.uint8), 0
    for _, stop in pieces(found, _PIECE):
        while read < stop and (more := stream.readinto(data.data[read:stop])):  # type: ignore[attr-defined]
            read += more
        if read < stop:
            raise ForeignFileError(f"{what}: expected {found} bytes of data, found {read}")
    data.flags.writeable = False
    if dtype.kind == "b" and found and (most := data.max()) > 1:
        raise ForeignFileError(f"{what}: expected bools, found byte {most}")
    try:
        return data.view(dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError:  # more dimensions than numpy has, or a size beside a 0 that no machine has
        raise ForeignFileError(f"{what}: expected a shape that arrays can have, found {shape!r:.80}") from None


@lru_cache(maxsize=16)
def _described(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of the first bytes of a file: those of many files are equal."""
    stream = BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = read_header(stream, max_header_size=_MAX_HEADER)
    return found


def _opened(path: Path, what: str) -> BinaryIO:
    try:
        return open_regular(path, what=what)
    except IrregularFileError as error:
        raise ForeignFileError(str(error)) from None


def read_npy_file(path: Path, *, limit: int | None = None) -> NDArray[Any]:
    """The array of an .npy file; LimitError for one of more bytes than `limit`."""
    with _opened(path, "an .npy file") as file:
        size = path.stat().st_size
        check_claim(str(path), size, size, limit)
        return read_npy(file, size, str(path))


class _Bounded:
    """A file whose single reads are bounded: of a zip file's table of contents, one read takes all."""

    def __init__(self, file: BinaryIO, what: str, limit: int | None) -> None:
        self._file, self._what, self._limit = file, what, limit
        self.bounded = True
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if self.bounded:
            check_table(self._what, size, self._limit)
        return self._file.read(size)


def opened_zip(
    path: Path, file: BinaryIO, limit: int | None = None, what: str = "an .npz file of plain arrays"
) -> zipfile.ZipFile:
    """A zip file whose table of contents is bounded; ForeignFileError for what is none, and so not `what`."""
    bounded = _Bounded(file, str(path), limit)
    try:
        archive = zipfile.ZipFile(bounded)
    except MaskStoreError:
        raise
    except Exception as error:  # damaged tables of contents fail in many ways
        raise ForeignFileError(f"{path}: expected {what}, found: {one_line(error)}") from None
    bounded.bounded = False
    return archive


def read_npz(path: Path, *, compressed: bool = True, limit: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, in file order.

    Args:
        path: The file.
        compressed: Whether arrays may be compressed. Otherwise they have to be stored as they are.
        limit: The most bytes of the arrays together, where the default of `maskstore.files.claims` is too low.

    Raises:
        BankNotFoundError: There is no file.
        ForeignFileError: The file is anything but plain arrays.
        LimitError: Few bytes claim to be large arrays.

    Examples:
        >>> import numpy as np, tempfile
        >>> from pathlib import Path
        >>> from maskstore.files import read_npz, write_npz
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_npz(Path(folder, "a.npz"), {"fc1": np.ones(3)})
        ...     read_npz(Path(folder, "a.npz"))
        {'fc1': array([1., 1., 1.])}
    """
    if not path.exists():
        raise BankNotFoundError(f"{path}: expected an .npz file, found none")
    arrays: dict[str, NDArray[Any]] = {}
    with _opened(path, "an .npz file") as file:
        if file.read(6) == b"\x93NUMPY":
            raise ForeignFileError(f"{path}: expected an .npz file with an array a layer, found a single array")
        try:
            with opened_zip(path, file, limit) as archive:
                members = archive.infolist()
                _check_members(members, path, compressed, limit)
                for member in members:
                    with archive.open(member) as stream:
                        name = array_name(member.filename)
                        if name in arrays:
                            raise ForeignFileError(f"{path}: expected distinct arrays, found {name!r:.80} twice")
                        arrays[name] = read_npy(stream, member.file_size, f"{path}, array {name!r:.80}")
        except MaskStoreError:
            raise
        except Exception as error:  # zipfile and zlib raise half a dozen types on damaged files
            raise ForeignFileError(f"{path}: expected an .npz file of plain arrays, found: {one_line(error)}") from None
    return arrays


def member_name(name: str) -> str:
    """The name that an array has in a zip file.

    It is the array's own, unless programs that unpack zip files could take it for a path out of their folder or for
    no path at all. Such a name is written after a `%`, every other byte than letters and digits as `%` and two digits.
    """
    if not name or (all(map(_SAFE_PART.fullmatch, name.split("/"))) and not name.startswith("%")):
        return f"{name}.npy"
    escaped = "".join(chr(b) if chr(b).isascii() and chr(b).isalnum() else f"%{b:02X}" for b in name.encode())
    return f"%{escaped}.npy"


def array_name(member: str) -> str:
    """The name of an array whose name in a zip file is `member`: the other way round of `member_name`."""
    name = member.removesuffix(".npy")
    if name.startswith("%"):
        own = unquote(name[1:], errors="replace")
        return own if member_name(own) == member else name
    return name


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], *, overwrite: bool = False) -> None:
    """Write a compressed .npz file; BankExistsError if there is a file and `overwrite` is not set."""
    with (
        replacing(path, overwrite=overwrite) as scratch,
        zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(member_name(name), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _check_members(members: list[zipfile.ZipInfo], path: Path, compressed: bool, limit: int | None) -> None:
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise ForeignFileError(f"{path}: expected distinct arrays, found one name twice")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise ForeignFileError(f"{path}: expected only .npy members, found {member.filename!r:.80}")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ForeignFileError(f"{path}: expected stored or deflated members, found {member.filename!r:.80}")
        if not compressed and member.compress_type != zipfile.ZIP_STORED:
            raise ForeignFileError(f"{path}: expected stored members, found {member.filename!r:.80} compressed")
    total, size = sum(member.file_size for member in members), path.stat().st_size
    if total > (most := _DEFLATE_RATIO * size):
        raise ForeignFileError(f"{path}: expected members of at most {most} bytes together, found {total} claimed")
    check_claim(str(path), total, size, limit)
