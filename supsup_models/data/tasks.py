"""What a task of a stream is: labelled images for training and for testing, served in batches."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, final

import torch
from torch import Tensor

_CHUNK = 1024  # rows; keeps the float copies that a permutation needs within the cache

Levels = float | tuple[float, ...]
"""A number for all pixels, or one for each channel; an image's channels lie one after another."""


class LabelledImages(Protocol):
    """What training and evaluation need of a data set; `supsup_models.data` offers it, and so can you."""

    def __len__(self) -> int:
        """Number of images n."""

    @property
    def labels(self) -> Tensor:
        """`(n,)` int64."""

    def images(self, indices: Tensor | slice) -> Tensor:
        """The images at these indices (an int64 tensor or a slice), `(b, inputs)` float32."""

    def to(self, device: torch.device) -> Self:
        """The same data on a device, where `images` then takes its indices and gives its images."""


class TaskImages(LabelledImages, Protocol):
    """Labelled images that know their size and how their pixels were made: `pixel * scale + shift`."""

    @property
    def inputs(self) -> int:
        """Values of an image."""

    @property
    def scale(self) -> Levels:
        """What a stored pixel is multiplied by."""

    @property
    def shift(self) -> Levels:
        """What is then added."""


def pixel_levels(mean: Levels, std: Levels, levels: int) -> tuple[Levels, Levels]:
    """Scale and shift that take a pixel in 0..levels to (pixel / levels - mean) / std; both for all, or by channel."""
    if isinstance(mean, tuple):
        assert isinstance(std, tuple)
        scale = tuple(1.0 / (levels * each) for each in std)
        return scale, tuple(-m / s for m, s in zip(mean, std, strict=True))
    assert not isinstance(std, tuple)
    return 1.0 / (levels * std), -mean / std


def plain(levels: Levels) -> float | list[float]:
    """As JSON gives it back."""
    return list(levels) if isinstance(levels, tuple) else levels


def normalise(values: Tensor, scale: Levels, shift: Levels) -> Tensor:
    """`values * scale + shift`, in place, of images `(b, inputs)` float32."""
    if isinstance(scale, tuple) or isinstance(shift, tuple):
        scales, shifts = (
            torch.tensor(levels, dtype=values.dtype, device=values.device).reshape(-1, 1) for levels in (scale, shift)
        )
        values.unflatten(1, (max(len(scales), len(shifts)), -1)).mul_(scales).add_(shifts)
        return values
    return values if (scale, shift) == (1.0, 0.0) else values.mul_(scale).add_(shift)


@final
@dataclass(frozen=True, eq=False)
class Held:
    """Shared images that lie in memory: gives them when it is called, here and in a process that it was sent to."""

    pixels: Tensor

    def __call__(self) -> Tensor:
        return self.pixels


def labelled_image(data: LabelledImages, index: int) -> tuple[Tensor, int]:
    """One image `(inputs,)` and its label, as torch's `DataLoader` asks for them; IndexError beyond the last."""
    at = range(len(data))[index]
    return data.images(torch.tensor([at], device=data.labels.device))[0], int(data.labels[at])


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images of one task, kept in memory.

    The images are not a copy of their own: all tasks share those that `pixels` gives.

    It is a data set for torch, too: `split[i]` is an image and its label, so a `DataLoader` takes it, with workers of
    any start method.

    Args:
        labels: `(n,)` int64, task-local: in range(classes), whatever the data set calls them.
        pixels: gives the shared images, `(N, inputs)` uint8 or float32. To send a split to another process, it has to
            be something that can be pickled, such as `Held(tensor)`; a lambda is not.
        inputs: values of an image.
        scale: a pixel's value is `pixel * scale + shift`. One number for all pixels, or one for each channel, in which
            case the pixels' order must be as stored.
        shift: as `scale`.
        rows: `(n,)` int64, which of the shared images are this task's; None stands for all.
        columns: `(inputs,)` int64, in which order their pixels come; None stands for as stored.
        image_shape: the shape that an image came in, where it is known and the pixels' order is as in it. A network of
            images of another shape then refuses the split, since the pixels mean something else to it.

    Examples:
        >>> import torch
        >>> from supsup_models.data import Split
        >>> shared = torch.arange(12, dtype=torch.uint8).view(4, 3)
        >>> split = Split(torch.tensor([0, 1]), lambda: shared, inputs=3, scale=0.5, rows=torch.tensor([3, 1]))
        >>> split.images(slice(0, 2))
        tensor([[4.5000, 5.0000, 5.5000],
                [1.5000, 2.0000, 2.5000]])
    """

    labels: Tensor
    pixels: Callable[[], Tensor]
    inputs: int
    scale: Levels = 1.0
    shift: Levels = 0.0
    rows: Tensor | None = None
    columns: Tensor | None = None
    image_shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return self.labels.shape[0]

    def __repr__(self) -> str:
        return f"Split({len(self)} images of {self.inputs} values)"

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image `(inputs,)` and its label."""
        return labelled_image(self, index)

    def images(self, indices: Tensor | slice) -> Tensor:
        """The images `indices` of this split, (b, inputs), float32, normalised; a new tensor each time.

        `indices` is a slice or an int64 tensor (b,) with values in range(len(self)), on the device of the split; others
        raise `IndexError` (on a CUDA device, torch's own device-side error). An image comes out bit for bit the same
        whichever batch it is asked for in.
        """
        pixels = self.pixels()
        if isinstance(indices, slice):
            chosen = None if self.rows is None else self.rows[indices]
            if chosen is None:
                pixels = pixels[indices]
        else:
            chosen = indices if self.rows is None else self.rows.index_select(0, indices)
        count = pixels.shape[0] if chosen is None else chosen.shape[0]
        if chosen is not None and self.columns is not None and pixels.dtype == torch.uint8 and not pixels.is_cuda:
            return self._gathered(pixels, chosen, self.columns)
        out = torch.empty(count, self.inputs, dtype=torch.float32, device=pixels.device)  # whatever the default is
        for start in range(0, count, _CHUNK):
            part = out[start : start + _CHUNK]
            source = pixels[start : start + _CHUNK]
            if chosen is not None:
                source = pixels.index_select(0, chosen[start : start + _CHUNK])
            if self.columns is None:
                part.copy_(source)
                normalise(part, self.scale, self.shift)
            else:
                # Normalised before it is permuted: torch gathers columns of float32 four times faster than of uint8.
                floats = normalise(source.to(torch.float32, copy=True), self.scale, self.shift)
                torch.index_select(floats, 1, self.columns, out=part)
        return out

    def to(self, device: torch.device | str) -> "Split":
        """The same split with its labels and images on `device`, so that batches are made there."""
        pixels = self.pixels().to(device)
        rows, columns = (None if each is None else each.to(device) for each in (self.rows, self.columns))
        return replace(self, labels=self.labels.to(device), pixels=Held(pixels), rows=rows, columns=columns)

    def _gathered(self, pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """One pass over bytes, bit for bit what the float operations in `images` give."""
        from supsup_models.data.gather import gather  # only here: Numba takes a second to load

        values = normalise(torch.arange(256, dtype=torch.float32)[:, None], self.scale, self.shift).squeeze(1)
        return torch.from_numpy(gather(pixels.numpy(), rows.numpy(), columns.numpy(), values.numpy()))


@final
@dataclass(frozen=True, eq=False)
class Task:
    """One task of a stream.

    Examples:
        >>> from supsup_models import open_stream
        >>> task = open_stream("split-digits")[4]
        >>> task.index, task.name, task.classes, task.global_labels
        (4, 'task-4', 2, (8, 9))
        >>> images, labels = task.train.images(slice(0, 32)), task.train.labels[:32]
    """

    index: int
    """Its place in the stream."""
    global_labels: tuple[int, ...]
    """What the data set calls the class of each task-local label."""
    train: TaskImages
    """Labelled images for training."""
    test: TaskImages
    """Labelled images for testing."""
    given_name: str | None = field(default=None, kw_only=True)
    """The name that a caller gave it, if one did."""

    @property
    def name(self) -> str:
        """The name under which its mask is stored."""
        return f"task-{self.index}" if self.given_name is None else self.given_name

    @property
    def classes(self) -> int:
        """How many classes it has."""
        return len(self.global_labels)

    def __repr__(self) -> str:
        sizes = f"{self.classes} classes, {len(self.train)} images to train on, {len(self.test)} to test on"
        return f"Task({self.name}: {sizes})"
