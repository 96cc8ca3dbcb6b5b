"""Images turned, mirrored, inverted or cut into patches: which pixel comes where, as an order of an image's values.

An order is `(inputs,)` int64, and `image[order]` is the image transformed. All are exact: no pixel is interpolated.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from supsup_models._names import whole_number
from supsup_models.errors import NetworkError, ShapeError

VIEW_COUNTS = (1, 4, 8)
"""How many views an image can have: itself, its quarter turns, and with the mirrored image's."""
PATCHES = 4
"""Patches along each side of an image that is cut into patches, 16 in all."""


class Transformation(NamedTuple):
    """Quarter turns counter-clockwise, after a reflection left to right; and whether pixels are inverted."""

    quarters: int = 0
    mirrored: bool = False
    inverted: bool = False


TRANSFORMATIONS = (
    *(Transformation(quarters) for quarters in range(4)),
    Transformation(inverted=True),
    *(Transformation(quarters, mirrored=True) for quarters in range(4)),
    *(Transformation(quarters, inverted=True) for quarters in (1, 2, 3)),
    *(Transformation(quarters, mirrored=True, inverted=True) for quarters in range(4)),
)
"""All there are, in the order of the tasks of `transformed-*`: first each by itself, then combined."""


def turn_order(image_shape: tuple[int, ...], quarters: int, mirrored: bool = False) -> NDArray[np.int64]:
    """The order that mirrors an image left to right, if so said, and then turns it by quarters counter-clockwise.

    Args:
        image_shape: Channels, height and width.
        quarters: How many quarter turns.
        mirrored: Whether it is mirrored first.

    Raises:
        ShapeError: For an odd number of quarter turns of an image that is no square.

    Examples:
        >>> import numpy as np
        >>> from supsup_models.data import turn_order
        >>> image = np.array([1, 2, 3, 4])  # 1 2 above 3 4
        >>> image[turn_order((1, 2, 2), 1)].tolist()
        [2, 4, 1, 3]
    """
    if quarters % 2:
        check_square(image_shape)
    places = np.arange(prod(image_shape), dtype=np.int64).reshape(image_shape)
    places = places[:, :, ::-1] if mirrored else places
    return np.ascontiguousarray(np.rot90(places, quarters, axes=(1, 2))).reshape(-1)


def patch_order(image_shape: tuple[int, ...], order: NDArray[np.int64], patches: int = PATCHES) -> NDArray[np.int64]:
    """The order that cuts an image into `patches` x `patches` equal patches and puts them into another order.

    Args:
        image_shape: Channels, height and width.
        order: `(patches * patches,)`, which patch comes to each place, row by row.
        patches: How many there are along each side.

    Raises:
        ShapeError: For an image that cannot be cut so.

    Examples:
        >>> import numpy as np
        >>> from supsup_models.data import patch_order
        >>> image = np.array([1, 2, 3, 4])
        >>> image[patch_order((1, 2, 2), np.array([3, 2, 1, 0]), patches=2)].tolist()
        [4, 3, 2, 1]
    """
    channels, height, width = image_shape
    if height % patches or width % patches:
        raise ShapeError(f"patches: expected sides that {patches} divides, found {height} x {width} pixels")
    cut = (channels, patches, height // patches, patches, width // patches)
    places = np.arange(prod(image_shape), dtype=np.int64).reshape(cut).transpose(1, 3, 0, 2, 4)
    moved = places.reshape(patches * patches, -1)[order].reshape(
        patches, patches, channels, height // patches, width // patches
    )
    return np.ascontiguousarray(moved.transpose(2, 0, 3, 1, 4)).reshape(-1)


def check_square(image_shape: tuple[int, ...]) -> None:
    """ShapeError for images that a quarter turn does not fit."""
    _, height, width = image_shape
    if height != width:
        raise ShapeError(f"quarter turn: expected square images, found {height} x {width} pixels")


def checked_view_count(count: int) -> int:
    """NetworkError for a number of views that no image has."""
    if whole_number("views", count) not in VIEW_COUNTS:
        raise NetworkError(f"views: expected 1, 4 or 8, found {count}")
    return count


def checked_image_shape(what: str, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width; ShapeError for another kind of shape."""
    sides = tuple(whole_number(what, side) for side in image_shape)
    if len(sides) != 3 or min(sides) < 1:
        raise ShapeError(f"{what}: expected an image shape of channels, height and width, found {tuple(image_shape)}")
    return sides
