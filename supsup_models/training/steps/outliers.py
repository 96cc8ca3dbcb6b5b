"""Outliers: images of no task, made of the task's own. A mask learns to answer them with superfluous outputs.

No image of another task is used. What a task's own images become may equal another task's images all the same: a
shuffled image is one of another permutation, and a turned one is of another task where tasks differ by turns. That is
no leak, since it follows from this task's images alone. But it means that outliers should be like the other tasks:

- "shuffled": all values of the images in another order, one for each step. For flat vectors, and for tasks that differ
  in the order of pixels.
- "foreign": for images of any kind: turned, inverted, stretched, noise, blobs and strokes (`foreign_images`). For tasks
  that see the same things otherwise, and for one-shot inference in networks of images.
- "composed": for images, a quarter of them each way: quadrants in another order; a quadrant of each of four images;
  halves of two images, the second one perhaps mirrored; bent. They have the strokes and textures of the task's images
  and other shapes, as images of other classes do. For tasks that show other classes in the same way.
- "fitting": "foreign" where the network knows the shape of its images, "shuffled" elsewhere.

`Sparse.outliers` takes the name of one of these, or a callable of your own.

Source: Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019. CutMix (Yun et
al., ICCV 2019) puts parts of images together, too.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskstore.philox import Role, random_permutation, random_uniform
from supsup_models.errors import NetworkError, ShapeError
from supsup_models.training.foreign_images import foreign

_BEND = 0.35
"""The standard deviation by which a bent image's 4 x 4 anchors move, in halves of its side."""
_ANCHORS = 4


class Outliers(Protocol):
    """Makes outliers of a task's images."""

    def __call__(self, images: Tensor, *, seed: int, task: int, step: int) -> Tensor:
        """Outliers `(n, inputs)` made of images `(n, inputs)`; they follow from the seed, the task and the step."""


def shuffled(images: Tensor, *, seed: int, task: int, step: int) -> Tensor:
    """The images with their values in another order, one order for all.

    Args:
        images: `(n, inputs)`.
        seed: What the order follows from, with the task's number and the step's.
        task: The task's number.
        step: The step's number.

    Examples:
        >>> import torch
        >>> from supsup_models.training import shuffled
        >>> shuffled(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), seed=0, task=0, step=0).sort().values.tolist()
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    """
    order = random_permutation(seed, Role.SHUFFLE, images.shape[1], layer=step, stream=task)
    return images.index_select(1, torch.from_numpy(order).to(images.device))


def composed(images: Tensor, image_shape: tuple[int, ...], *, seed: int, task: int, step: int) -> Tensor:
    """Other images made of parts of these, and bent ones: a quarter of them each way.

    Args:
        images: `(n, inputs)`.
        image_shape: Channels, height and width, both even.
        seed: What the images follow from, with the task's number and the step's.
        task: The task's number.
        step: The step's number.

    Returns:
        As many images, n >= 1.

    Raises:
        ShapeError: Sides that are not even.

    Examples:
        >>> import torch
        >>> from supsup_models.training import composed
        >>> composed(torch.rand(8, 36), (1, 6, 6), seed=0, task=0, step=0).shape
        torch.Size([8, 36])
    """
    channels, height, width = image_shape
    if height % 2 or width % 2:
        raise ShapeError(f"composed outliers: expected even sides, found {height} x {width} pixels")
    grid = images.view(-1, channels, height, width)
    draw = _draws(random_uniform(seed, Role.SHUFFLE, len(images) * _NEEDED, layer=step, stream=task))
    parts = [
        made(grid, indices, draw)
        for made, indices in zip(_WAYS, np.array_split(np.arange(len(images)), len(_WAYS)), strict=True)
        if len(indices)
    ]
    return torch.cat(parts).reshape(len(images), -1)


_NEEDED = 2 * _ANCHORS * _ANCHORS
"""Random numbers for an image, at most."""
Draw = Callable[[int], NDArray[np.float64]]


def _draws(uniform: NDArray[np.float64]) -> Draw:
    """The next numbers of a stream, in (0, 1)."""
    left: Iterator[float] = iter(((uniform + 1.0) / 2.0).tolist())
    return lambda count: np.fromiter(left, np.float64, count)


def _picked(draw: Draw, count: int, among: int) -> Tensor:
    """`(count,)` int64 in `range(among)`."""
    return torch.from_numpy((draw(count) * among).astype(np.int64))


_ORDERS = torch.tensor([order for order in permutations(range(4)) if order != (0, 1, 2, 3)])


def _swapped(grid: Tensor, indices: NDArray[np.int64], draw: Draw) -> Tensor:
    """Each image's quadrants in another order."""
    order = _ORDERS[_picked(draw, len(indices), len(_ORDERS))]
    own = torch.from_numpy(indices)[:, None].expand(-1, 4)
    return _joined(grid, own, order)


def _of_four(grid: Tensor, indices: NDArray[np.int64], draw: Draw) -> Tensor:
    """A quadrant of each of four images, in its place."""
    four = _picked(draw, 4 * len(indices), len(grid)).view(-1, 4)
    return _joined(grid, four, torch.arange(4).expand(len(indices), 4))


def _joined(grid: Tensor, image: Tensor, quadrant: Tensor) -> Tensor:
    """Images of four quadrants, each of an image `(n, 4)` and from a place in it `(n, 4)`."""
    count, channels, height, width = grid.shape
    cut = grid.reshape(count, channels, 2, height // 2, 2, width // 2).permute(0, 2, 4, 1, 3, 5)
    taken = cut.reshape(count, 4, channels, height // 2, width // 2)[image.to(grid.device), quadrant.to(grid.device)]
    shaped = taken.view(len(image), 2, 2, channels, height // 2, width // 2).permute(0, 3, 1, 4, 2, 5)
    return shaped.reshape(len(image), channels, height, width)


def _of_two(grid: Tensor, indices: NDArray[np.int64], draw: Draw) -> Tensor:
    """Part of an image beside the rest of another one, cut from side to side or from top to bottom near the middle."""
    count, _, height, width = grid.shape
    n = len(indices)
    other = grid[_picked(draw, n, count).to(grid.device)]
    across, up, aside = (torch.from_numpy(draw(n) < 0.5).to(grid.device).view(-1, 1, 1, 1) for _ in range(3))
    other = torch.where(up, other.flip(2), other)
    other = torch.where(aside, other.flip(3), other)
    at = torch.from_numpy(0.3 + 0.4 * draw(n)).to(grid.device).view(-1, 1, 1, 1)
    rows = torch.arange(height, device=grid.device).view(1, 1, -1, 1) < at * height
    columns = torch.arange(width, device=grid.device).view(1, 1, 1, -1) < at * width
    return torch.where(torch.where(across, rows, columns), grid[torch.from_numpy(indices).to(grid.device)], other)


def _bent(grid: Tensor, indices: NDArray[np.int64], draw: Draw) -> Tensor:
    """Images whose pixels moved along a smooth random field; what comes from outside is the image's darkest value."""
    n = len(indices)
    numbers = draw(2 * _ANCHORS * _ANCHORS * n)
    # uniform numbers of the standard deviation that is wanted
    field = torch.from_numpy((2.0 * numbers - 1.0) * (3.0**0.5 * _BEND)).float().view(n, 2, _ANCHORS, _ANCHORS)
    own = grid[torch.from_numpy(indices).to(grid.device)].float()
    moved = F.interpolate(field.to(grid.device), own.shape[2:], mode="bicubic", align_corners=False)
    still = F.affine_grid(torch.eye(2, 3, device=grid.device).expand(n, 2, 3), list(own.shape), align_corners=False)
    dark = own.amin(dim=(1, 2, 3), keepdim=True)
    bent = F.grid_sample(own - dark, still + moved.permute(0, 2, 3, 1), align_corners=False)
    return (bent + dark).to(grid.dtype)


_WAYS = (_swapped, _of_four, _of_two, _bent)


def made_outliers(outliers: Outliers | str, image_shape: tuple[int, ...] | None) -> Outliers:
    """What makes outliers: the callable itself, or the one of a name for images of a shape.

    Raises:
        NetworkError: Outliers for images of which nobody said the shape.
    """
    if not isinstance(outliers, str):
        return outliers
    shape = image_shape if image_shape is not None and len(image_shape) == 3 else None
    if outliers == "shuffled" or (outliers == "fitting" and shape is None):
        return shuffled
    if shape is None:
        raise NetworkError(
            f"{outliers} outliers: expected a recipe that knows the images' shape, found none; "
            "`recipe.for_images(stream.image_shape)` does"
        )
    return partial(composed if outliers == "composed" else foreign, image_shape=shape)
