"""CIFAR-100 from a local folder, in either layout that is passed on; labels are the 100 fine ones.

The binary layout, `cifar-100-binary/{train,test}.bin`, is records of a coarse label, a fine label and 3072 pixels. The
python layout, `cifar-100-python/{train,test}`, is pickles. They are read without running what they name: the few numpy
names that an array needs get stand-ins that keep their arguments and do nothing, and any other name is refused.
"""

import hashlib
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ForeignFileError, IrregularFileError, one_line
from maskstore.files import read_regular
from maskstore.interop.readers import StoredArray, StoredDtype
from supsup_models.data.sets.data_set import DataSet, LabelledPixels
from supsup_models.data.sets.find import describe_places, search_places
from supsup_models.errors import DataFormatError, DataNotFoundError

CLASSES = 100
PIXELS = 3 * 32 * 32
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)  # by channel, of the training pixels in [0, 1]

_MAX_BYTES = 1 << 28  # 256 MiB; the training file has 155 MB
_LAYOUTS = (("cifar-100-binary", ("train.bin", "test.bin")), ("cifar-100-python", ("train", "test")))
_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"


def load_cifar100(data: Path | None) -> DataSet:
    """The data set from either layout, the binary one before the python one. Pixels are red, green and blue planes.

    Its files are looked for in `data` alone if it is given, else in the usual places (`find.search_places`): there, or
    in the folder that the archive unpacks to. Raises `DataNotFoundError` and `DataFormatError`.
    """
    places = search_places(data)
    for _, place in places:
        for folder, (train, test) in _LAYOUTS:
            for where in (place / folder, place / "cifar-100" / folder, place):
                if (where / train).is_file() and (where / test).is_file():
                    return _read(where / train, where / test)
    raise DataNotFoundError(
        "CIFAR-100 not found: expected train.bin and test.bin, or cifar-100-python/train and test, found neither in "
        f"{describe_places(places)}; to get it: unpack {_SOURCE} in a folder and give it as `data`"
    )


def _read(train: Path, test: Path) -> DataSet:
    read = _read_binary if train.suffix == ".bin" else _read_pickle
    contents = {"train": _content(train), "test": _content(test)}
    return DataSet(
        name="cifar-100",
        train=read(train, contents["train"]),
        test=read(test, contents["test"]),
        image_shape=(3, 32, 32),
        classes=CLASSES,
        levels=255,
        mean=MEAN,
        std=STD,
        sha256={part: hashlib.sha256(content).hexdigest() for part, content in contents.items()},
    )


def _read_binary(path: Path, content: bytes) -> LabelledPixels:
    size = 2 + PIXELS
    if not content or len(content) % size:
        raise DataFormatError(f"{path}: expected CIFAR-100 records of {size} bytes, found {len(content)} bytes")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    return _checked(path, records[:, 2:], records[:, 1])


def _read_pickle(path: Path, content: bytes) -> LabelledPixels:
    reader = _Reader(BytesIO(content), encoding="bytes")
    try:
        found = reader.load()
        images, labels = found[b"data"], found[b"fine_labels"]
        return _checked(path, images.array("data"), np.array(labels))
    except DataFormatError:
        raise
    except Exception as error:  # a damaged or hostile pickle can make its reader raise anything
        detail = one_line(error)
        raise DataFormatError(
            f"{path}: expected CIFAR-100 in its python layout, found something else ({detail}); "
            f"the binary layout is read without unpickling: {_SOURCE}"
        ) from None


class _Reader(pickle._Unpickler):
    """Unpickles plain containers, numbers, strings and byte arrays. The one in Python: its memory follows its input."""

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for three names of numpy; ForeignFileError for all others."""
        if (module, name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
        }:
            return lambda *_: StoredArray()
        if (module, name) == ("numpy", "dtype"):
            return lambda kind, *_: StoredDtype(kind.decode() if isinstance(kind, bytes) else kind)
        raise ForeignFileError(f"expected plain arrays, found {module}.{name}, which only unpickling code could load")


def _checked(path: Path, images: NDArray[Any], labels: NDArray[Any]) -> LabelledPixels:
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != PIXELS or not len(images):
        raise DataFormatError(f"{path}: expected (n, {PIXELS}) bytes of pixels, found {images.dtype} {images.shape}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise DataFormatError(f"{path}: expected {len(images)} labels, found {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise DataFormatError(f"{path}: expected labels in range({CLASSES}), found {labels.min()} to {labels.max()}")
    return LabelledPixels(images.copy(order="C"), labels.astype(np.int64))


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataFormatError(f"{path}: expected at most {_MAX_BYTES} bytes, found {size}")
        return read_regular(path, limit=_MAX_BYTES, what="a file")
    except IrregularFileError as error:
        found = str(error).removeprefix(f"{path}: ")
        raise DataNotFoundError(f"{path}: cannot be read: {found}") from None
    except OSError as error:
        raise DataNotFoundError(f"{path}: cannot be read: expected a file, found {error.strerror!r}") from None
