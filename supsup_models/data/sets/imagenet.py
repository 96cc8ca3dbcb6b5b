"""ImageNet from a local folder in its usual layout, a folder a class: `train/n01440764/*.JPEG`, `val/n01440764/*.JPEG`.

Images are decoded when they are asked for; a task keeps their paths only.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore.errors import one_line
from maskstore.files import open_regular
from maskstore.philox import Role, random_uint32
from supsup_models.data.sets.find import describe_places, search_places
from supsup_models.data.tasks import labelled_image, normalise, pixel_levels
from supsup_models.errors import DataFormatError, DataNotFoundError

if TYPE_CHECKING:
    from PIL import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # by channel, of pixels in [0, 1]
SIZE = 224
_RESIZED = 256  # of the shorter side, before the middle is cut out
_SUFFIXES = (".jpeg", ".jpg", ".png")
_BILINEAR = 2  # `PIL.Image.Resampling.BILINEAR`, which is not imported yet
_ATTEMPTS = 10  # at a random rectangle
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class ClassFolders:
    """The folders of the classes that "train" and "val" have in common, by name; `sha256` is of all files' names.

    It says of its images what a `DataSet` says of those in memory.
    """

    train: Mapping[str, tuple[Path, ...]]
    val: Mapping[str, tuple[Path, ...]]
    sha256: Mapping[str, str]
    name: ClassVar = "imagenet"
    image_shape: ClassVar = (3, SIZE, SIZE)
    inputs: ClassVar = 3 * SIZE * SIZE
    mean: ClassVar = MEAN
    std: ClassVar = STD

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(self.train)


def find_imagenet(data: Path | None = None) -> ClassFolders:
    """The files of every class. They are looked for in `data` alone if it is given, else in the usual places.

    Raises `DataNotFoundError`, and `DataFormatError` for classes that differ between the two, or have no images.
    """
    places = search_places(data)
    for _, place in places:
        for folder in (place / "imagenet", place):
            if (folder / "train").is_dir() and (folder / "val").is_dir():
                return _listed(folder)
    raise DataNotFoundError(
        "ImageNet not found: expected train/ and val/ with a folder a class, "
        f"found neither in {describe_places(places)}; "
        "to get it: https://image-net.org, then give the folder as `data`"
    )


def _listed(folder: Path) -> ClassFolders:
    found = {part: _classes_in(folder / part) for part in ("train", "val")}
    differing = sorted(found["train"].keys() ^ found["val"].keys())
    if differing:
        raise DataFormatError(
            f"{folder}: expected the same class folders in train and val, found {differing[0]} in one only"
        )
    digest = hashlib.sha256()
    for part, classes in found.items():
        for name, files in classes.items():
            digest.update("\0".join((part, name, *(file.name for file in files), "")).encode())
    return ClassFolders(found["train"], found["val"], {"names": digest.hexdigest()})


def _classes_in(folder: Path) -> dict[str, tuple[Path, ...]]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        classes = {}
        for name in names:
            files = sorted(file for file in os.listdir(folder / name) if file.lower().endswith(_SUFFIXES))
            if not files:
                raise DataFormatError(f"{folder / name}: expected images of the class, found none")
            classes[name] = tuple(folder / name / file for file in files)
    except OSError as error:
        raise DataNotFoundError(f"{folder}: cannot be read: expected a folder, found {error.strerror!r}") from None
    return classes


@final
class ImageFiles:
    """Labelled image files of one task, served as `(b, 3 * 224 * 224)` float32, normalised by channel.

    With `augmented`, a random rectangle of each image, mirrored at random (Szegedy et al., CVPR 2015: 8 to 100 % of the
    area, 3 : 4 to 4 : 3); which one follows from the seed, the task's number and how many batches were served. Without,
    the middle 224 x 224 after the shorter side was resized to 256. `to` gives a copy that counts from the start.
    """

    inputs = 3 * SIZE * SIZE
    scale, shift = pixel_levels(MEAN, STD, 255)

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        *,
        augmented: bool = False,
        seed: int = 0,
        task: int = 0,
        device: torch.device = _CPU,
    ) -> None:
        self._files = files
        self._device = device
        self.labels = labels.to(device)
        self._augmented, self._seed, self._task = augmented, seed, task
        self._served = 0

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image `(inputs,)` and its label."""
        return labelled_image(self, index)

    def __repr__(self) -> str:
        return f"ImageFiles({len(self)} images of {self.inputs} values{', augmented' if self._augmented else ''})"

    def images(self, indices: Tensor | slice) -> Tensor:
        """The images at these indices, decoded. DataFormatError for a file that is no JPEG or PNG image."""
        chosen = range(len(self))[indices] if isinstance(indices, slice) else indices.tolist()
        draws = np.zeros((len(chosen), 4 * _ATTEMPTS + 1), dtype=np.uint32)
        if self._augmented:
            drawn = random_uint32(self._seed, Role.AUGMENT, draws.size, layer=self._served, stream=self._task)
            draws = drawn.reshape(draws.shape)
            self._served += 1
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets other threads run
            decoded = list(pool.map(self._decode, (self._files[index] for index in chosen), draws))
        pixels = torch.from_numpy(np.stack(decoded)) if decoded else torch.empty(0, self.inputs, dtype=torch.uint8)
        return normalise(pixels.to(self._device).float(), self.scale, self.shift)

    def to(self, device: torch.device) -> "ImageFiles":
        """The same files, served on a device from the start; the files stay where they are."""
        return ImageFiles(
            self._files, self.labels, augmented=self._augmented, seed=self._seed, task=self._task, device=device
        )

    def _decode(self, file: Path, draws: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """One image `(3 * 224 * 224,)`, channel after channel."""
        from PIL import Image  # only here: no other stream needs it

        try:
            with open_regular(file, what="an image") as raw, Image.open(raw, formats=("JPEG", "PNG")) as image:
                if image.format == "JPEG" and not self._augmented:
                    image.draft("RGB", (_RESIZED, _RESIZED))  # a JPEG can be decoded at half its size for less
                rgb = image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            detail = one_line(error, 120)
            raise DataFormatError(f"{file}: expected a JPEG or PNG image, found something else ({detail})") from None
        cut = _random_rectangle(rgb, draws) if self._augmented else _middle(rgb)
        array = np.asarray(cut, dtype=np.uint8)  # (height, width, 3)
        if self._augmented and draws[-1] % 2:
            array = array[:, ::-1]
        return np.ascontiguousarray(array.transpose(2, 0, 1)).reshape(-1)


def _middle(image: "Image.Image") -> "Image.Image":
    """The shorter side to 256 pixels, then the middle 224 x 224."""
    share = _RESIZED / min(image.size)
    width, height = (max(_RESIZED, round(side * share)) for side in image.size)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    return image.resize((width, height), _BILINEAR).crop((left, top, left + SIZE, top + SIZE))


def _random_rectangle(image: "Image.Image", draws: NDArray[np.uint32]) -> "Image.Image":
    """A rectangle of the image at 224 x 224: the first of ten that fits, or else the middle."""
    for area, ratio, across, down in (draws[:-1].reshape(_ATTEMPTS, 4) / 2.0**32).tolist():
        pixels = (0.08 + 0.92 * area) * image.width * image.height
        aspect = (3 / 4) * (16 / 9) ** ratio  # uniform in the logarithm, 3:4 to 4:3
        width, height = round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5)
        if 0 < width <= image.width and 0 < height <= image.height:
            left, top = int(across * (image.width - width + 1)), int(down * (image.height - height + 1))
            return image.resize((SIZE, SIZE), _BILINEAR, box=(left, top, left + width, top + height))
    return _middle(image)
