"""The data sets as arrays in memory: `digits` comes with scikit-learn, `mnist` and `fashion-mnist` are IDX files,
`cifar-100` is read from either of its layouts."""

import hashlib
from pathlib import Path

import numpy as np

from maskstore.files import check_known
from maskstore.philox import Role, random_permutation
from supsup_models._names import expect
from supsup_models.data.names import DATA_SETS
from supsup_models.data.sets.cifar import load_cifar100
from supsup_models.data.sets.data_set import DataSet, LabelledPixels
from supsup_models.data.sets.download import download_files
from supsup_models.data.sets.find import cache_folder, find_folder, read_file
from supsup_models.data.sets.mnist import IDX_DATA_SETS, IDX_FILES, IdxDataSet
from supsup_models.errors import DataFormatError, DataNotFoundError, UnknownDataSetError

_DIGITS_TEST_PER_CLASS = 36  # a fifth of each class: 360 test images, and 1437 to train on
_DIGITS_SPLIT_SEED = 0  # part of the data set's definition, whatever seed a stream has


def load_data_set(name: str, *, data: Path | None = None, download: bool = False) -> DataSet:
    """The data set `name`, one of `DATA_SETS`.

    `data` is a folder with the four IDX files, or a parent that holds `mnist/` or `fashion-mnist/`; without it the
    usual places are searched (`find.find_folder`). `digits` needs no files and ignores it. With `download`, a data
    set of IDX files that is in none of them is fetched into `data`, or else into the user's cache; CIFAR-100 never is
    (`cifar.load_cifar100`). Raises `UnknownDataSetError`, `DataNotFoundError`, `DataFormatError` (wrong data set,
    damaged file) or `DownloadError`.
    """
    expect("data set", name, str, "the name of one, a str")
    check_known("data set", name, DATA_SETS, UnknownDataSetError)
    if name == "digits":
        return _load_digits()
    if name == "cifar-100":
        return load_cifar100(data)
    wanted = IDX_DATA_SETS[name]
    try:
        folder = find_folder(wanted, data)
    except (DataNotFoundError, DataFormatError) as error:
        # A folder given by name that holds something else is not to be written to.
        if not download or (data is not None and isinstance(error, DataFormatError)):
            raise
        folder = download_files(wanted, (cache_folder() if data is None else Path(data)) / wanted.name)
    return _load_idx(wanted, folder)


def _load_idx(wanted: IdxDataSet, folder: Path) -> DataSet:
    train_images, train_labels, test_images, test_labels = (read_file(wanted, folder, name) for name in IDX_FILES)
    _, height, width = train_images.shape  # the hashes vouch for shapes and labels
    return DataSet(
        name=wanted.name,
        train=LabelledPixels(train_images.reshape(-1, height * width), train_labels.astype(np.int64)),
        test=LabelledPixels(test_images.reshape(-1, height * width), test_labels.astype(np.int64)),
        image_shape=(1, height, width),
        classes=10,
        levels=255,
        mean=wanted.mean,
        std=wanted.std,
        sha256=wanted.sha256,
    )


def _load_digits() -> DataSet:
    """1797 images of 8 x 8 pixels in 0..16; which are for testing is drawn once and for all, 36 of each class."""
    try:
        from sklearn.datasets import load_digits  # half a second: only where it is used
    except ImportError:
        raise DataNotFoundError(
            'digits not found: expected scikit-learn, which embeds it, found none (pip install "maskstore[models]")'
        ) from None
    images, labels = load_digits(return_X_y=True)
    images, labels = images.astype(np.uint8), labels.astype(np.int64)
    if images.shape != (1797, 64) or images.max() > 16:
        raise DataFormatError(f"digits: expected 1797 images of 64 pixels in 0..16, found shape {images.shape}")
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        order = random_permutation(_DIGITS_SPLIT_SEED, Role.SPLIT, len(members), stream=label)
        is_test[members[order[:_DIGITS_TEST_PER_CLASS]]] = True
    return DataSet(
        name="digits",
        train=LabelledPixels(images[~is_test], labels[~is_test]),
        test=LabelledPixels(images[is_test], labels[is_test]),
        image_shape=(1, 8, 8),
        classes=10,
        levels=16,
        mean=0.3056,
        std=0.3762,
        sha256={"digits": hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()},
    )
