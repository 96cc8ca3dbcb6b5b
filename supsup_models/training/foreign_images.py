"""Outliers for networks of images: what other tasks might look like, made without a look at any.

A score that is to say "mine" has to say "not mine" to whatever comes: the task's own objects seen otherwise, and other
objects. `foreign` shows both, in fixed shares:

| of eight images | what they are |
|---|---|
| two | the task's own, turned by a quarter, a half or three quarters (mirrored where they are not square) |
| one | the same, and inverted |
| one | the task's own, turned by any angle, and stretched |
| one | noise with detail of several sizes |
| one | the task's own, cut into patches in another order |
| two | blobs and strokes, drawn from a seed, half of them inverted |

Drawn images and noise are the same pool for all tasks and networks, so that what natural images have in common speaks
for no task. On a convolutional network they raise the share of images whose task a linear score finds from 72 to 82 %
(`docs/rate.md`).
"""

from functools import cache
from math import pi

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskstore.philox import Role, random_permutation, random_uniform

KINDS = 8
"""Images are dealt to the rows of the table in turn, so that every eighth is of one kind."""
_CANVAS = 28  # pixels, the side of what is drawn; larger images get it enlarged
_POOL = 512  # images of each kind
_SEED = 0  # for all networks the same pool
_NEEDED = 4  # random numbers an image


def foreign(images: Tensor, image_shape: tuple[int, ...], *, seed: int, task: int, step: int) -> Tensor:
    """Images of no task, see the module; in their range of values.

    Args:
        images: `(n, inputs)`, the task's own.
        image_shape: channels, height and width.
        seed: what the images follow from, with the task's number and the step's.
        task: the task's number.
        step: the step's number.

    Returns:
        As many images, `(n, inputs)`.

    Examples:
        >>> import torch
        >>> from supsup_models.training import foreign
        >>> foreign(torch.rand(8, 36), (1, 6, 6), seed=0, task=0, step=0).shape
        torch.Size([8, 36])
    """
    grid = images.reshape(-1, *image_shape)
    drawn = random_uniform(seed, Role.SHUFFLE, len(images) * _NEEDED, layer=step, stream=task)
    numbers = torch.from_numpy((drawn + 1.0) / 2.0).to(grid).view(-1, _NEEDED)  # in (0, 1)
    low, high = grid.amin(dim=(0, 2, 3), keepdim=True), grid.amax(dim=(0, 2, 3), keepdim=True)
    result = grid.clone()
    for first, made in enumerate((_turned, _turned, _inverted, _bent, _noise, _patched, _shapes, _shapes)):
        own = grid[first::KINDS]
        if len(own):
            result[first::KINDS] = made(own, numbers[first::KINDS], low, high)
    return result.reshape(len(images), -1)


def _turned(grid: Tensor, numbers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    square = grid.shape[2] == grid.shape[3]
    ways = [grid.rot90(1, (2, 3)), grid.flip(2, 3), grid.rot90(3, (2, 3))] if square else [grid.flip(2), grid.flip(3)]
    which = (numbers[:, 0] * len(ways)).long()
    return torch.stack(ways)[which, torch.arange(len(grid), device=grid.device)]


def _inverted(grid: Tensor, numbers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    own = torch.where(numbers[:, 1].view(-1, 1, 1, 1) < 0.25, grid, _turned(grid, numbers, low, high))
    return low + high - own


def _bent(grid: Tensor, numbers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    angle, size = 2.0 * pi * numbers[:, 0], torch.exp(1.4 * (numbers[:, 1] - 0.5))
    rows = torch.stack([size * angle.cos(), -size * angle.sin(), torch.zeros_like(size)], dim=1)
    columns = torch.stack([size * angle.sin(), size * angle.cos(), torch.zeros_like(size)], dim=1)
    places = F.affine_grid(torch.stack([rows, columns], dim=1), list(grid.shape), align_corners=False)
    return F.grid_sample(grid, places, padding_mode="border", align_corners=False)


def _noise(grid: Tensor, numbers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    mean, deviation = grid.mean(dim=(0, 2, 3), keepdim=True), grid.std(dim=(0, 2, 3), keepdim=True)
    return _taken("noise", grid, numbers) * deviation + mean


def _patched(grid: Tensor, numbers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Patches of a quarter of the sides in another order, one for all images; rows and columns left over stay."""
    high_side, wide_side = (max(1, side // 4) for side in grid.shape[2:])
    count, channels = grid.shape[:2]
    rows, columns = grid.shape[2] // high_side, grid.shape[3] // wide_side
    inner = grid[..., : rows * high_side, : columns * wide_side]
    cut = inner.reshape(count, channels, rows, high_side, columns, wide_side).transpose(3, 4).flatten(2, 3)
    seed = int(float(numbers[0, 0]) * 2**31)
    order = torch.from_numpy(random_permutation(seed, Role.SHUFFLE, rows * columns)).to(grid.device)
    moved = cut[:, :, order].unflatten(2, (rows, columns)).transpose(3, 4).reshape(inner.shape)
    result = grid.clone()
    result[..., : rows * high_side, : columns * wide_side] = moved
    return result


def _shapes(grid: Tensor, numbers: Tensor, low: Tensor, high: Tensor) -> Tensor:
    blobs = numbers[:, 1].view(-1, 1, 1, 1) < 0.5
    shown = torch.where(blobs, _taken("blobs", grid, numbers), _taken("strokes", grid, numbers))
    shown = torch.where(numbers[:, 2].view(-1, 1, 1, 1) < 0.5, shown, 1.0 - shown)
    return low + (high - low) * shown


def _taken(kind: str, like: Tensor, numbers: Tensor) -> Tensor:
    """Images of the pool, in the size and with the channels of others; each channel is an image of its own."""
    _, channels, height, width = like.shape
    which = (numbers[:, :1] * _POOL).long() + torch.arange(channels, device=like.device) * 7
    chosen = _pool(kind).to(like)[which % _POOL]  # (n, channels, canvas, canvas)
    if (height, width) == (_CANVAS, _CANVAS):
        return chosen
    return F.interpolate(chosen, (height, width), mode="bilinear", align_corners=False)


@cache
def _pool(kind: str) -> Tensor:
    """Drawn images `(512, canvas, canvas)`: noise of unit variance, or shapes in [0, 1]."""
    if kind == "strokes":
        return torch.cat([_strokes(part) for part in _uniform(1, _POOL * 24).view(-1, 64, 3, 8)])
    if kind == "blobs":
        parts = [_smooth(2 + index, side, _POOL // 4) for index, side in enumerate((3, 5, 7, 9))]
        heights = torch.cat(parts) - (0.5 + 0.5 * _uniform(6, _POOL)).view(-1, 1, 1)
        texture = 0.5 + 0.5 * torch.sigmoid(2.0 * _smooth(7, 3, _POOL))
        texture[::2] = 1.0
        return torch.sigmoid(8.0 * heights) * texture
    sizes = [_smooth(8 + index, side, _POOL) for index, side in enumerate((1, 3, 7))]
    return torch.stack(sizes).sum(dim=0) / 3**0.5


def _uniform(stream: int, count: int) -> Tensor:
    drawn: NDArray[np.float64] = random_uniform(_SEED, Role.SHUFFLE, count, layer=(1 << 24) - 1, stream=stream)
    return torch.from_numpy(drawn).float()


def _smooth(stream: int, side: int, count: int) -> Tensor:
    """Noise without detail below a size, of zero mean and unit variance in every image."""
    wide = _CANVAS + 2 * side
    noise = _uniform(stream, count * wide * wide).view(count, 1, wide, wide)
    for _ in range(3 if side > 1 else 0):
        noise = F.avg_pool2d(noise, side, stride=1, padding=side // 2)
    inner = noise[:, 0, side : side + _CANVAS, side : side + _CANVAS]
    centred = inner - inner.mean(dim=(1, 2), keepdim=True)
    result: Tensor = centred / centred.std(dim=(1, 2), keepdim=True)
    return result


def _strokes(numbers: Tensor) -> Tensor:
    """One to three bent strokes an image, `(n, 3, 8)` numbers in (-1, 1) -> `(n, canvas, canvas)` in [0, 1]."""
    points = _CANVAS * (0.5 + 0.36 * numbers[:, :, :6]).view(-1, 3, 3, 1, 2)  # three points of a parabola
    along = torch.linspace(0.0, 1.0, 20).view(1, 1, 20, 1)
    curve = (1 - along) ** 2 * points[:, :, 0] + 2 * along * (1 - along) * points[:, :, 1] + along**2 * points[:, :, 2]
    places = torch.cartesian_prod(torch.arange(_CANVAS), torch.arange(_CANVAS)).float()
    distance = torch.cdist(curve.flatten(0, 1), places).amin(dim=1).view(len(numbers), 3, -1)
    shown = torch.sigmoid(4.0 * (1.4 + 0.6 * numbers[:, :, 6:7] - distance))
    shown[:, 1:] *= (numbers[:, 1:, 7:8] > -0.2).float()
    return shown.amax(dim=1).view(-1, _CANVAS, _CANVAS)
