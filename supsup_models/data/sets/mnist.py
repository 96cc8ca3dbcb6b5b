"""What is known of the data sets that come as IDX files: names, contents' hashes, normalisation, where to get them.

Adding a data set of this kind is one more entry here and its name in `names.py`. The hashes are of the decompressed
files, since the same data set is passed on gzipped in several ways.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class IdxDataSet:
    """A data set of four IDX files, named alike in all of them; only `sha256` tells one data set from another."""

    name: str
    title: str
    subfolders: tuple[str, ...]  # of a folder that holds several data sets
    sha256: Mapping[str, str]  # of each file by name, decompressed: hex
    mean: float  # of the training pixels, scaled to [0, 1]
    std: float
    urls: tuple[str, ...]  # folders with the gzipped files; tried in order
    packaged: Path | None = None  # where a Debian package puts the files
    package: str | None = None


MNIST = IdxDataSet(
    name="mnist",
    title="MNIST",
    subfolders=("mnist", "MNIST/raw"),
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    mean=0.1307,
    std=0.3081,
    urls=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)

FASHION_MNIST = IdxDataSet(
    name="fashion-mnist",
    title="Fashion-MNIST",
    subfolders=("fashion-mnist", "FashionMNIST/raw"),
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    mean=0.2860,
    std=0.3530,
    urls=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    packaged=Path("/usr/share/datasets/fashion-mnist"),
    package="dataset-fashion-mnist",
)

IDX_FILES = tuple(MNIST.sha256)
IDX_DATA_SETS = {data_set.name: data_set for data_set in (MNIST, FASHION_MNIST)}
