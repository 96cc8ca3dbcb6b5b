"""Where the labels of a plot's points go, so that none lies on another, on a point, or outside the plot.

A plot is as wide as the page, while its text keeps its size. So every place is tried at all widths that a plot may
have; how wide a text is can only be estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from supsup_models.report.markup import Markup, element

WIDTHS = range(220, 921, 20)
"""Pixels that a plot is wide: from a phone's to the page's greatest."""
_CHARACTER = 7.6  # pixels, on the safe side for 12 px type
_ABOVE, _BELOW = 11.0, 4.0  # a line of text reaches so far from its baseline
_BESIDE = 8.0  # room at the sides of the plot, where nothing else stands
_ROWS = 4


@dataclass(frozen=True)
class Spot:
    """A point of a plot: `x` in per cent of the width, `y` in pixels from the top, and its radius in pixels."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class _Box:
    """A rectangle whose sides are at `x` per cent of the width, and so many pixels from there; `y` from the top."""

    x: float
    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: "_Box", width: float) -> bool:
        apart = (self.x - other.x) * width / 100
        beside = apart + self.left > other.right or other.left > apart + self.right
        return not (beside or self.top > other.bottom or other.top > self.bottom)

    def inside(self, width: float, height: float) -> bool:
        at = self.x * width / 100
        across = at + self.left >= -_BESIDE and at + self.right <= width + _BESIDE
        return across and self.top >= 0 and self.bottom <= height


class Labels:
    """Labels of a plot of so many pixels' height, each put where there is room.

    Args:
        height: Pixels from the top of the plot to its lower axis.
        spots: The points of the plot, on which no label may lie.
    """

    def __init__(self, height: float, spots: Sequence[Spot]) -> None:
        self._height = height
        self._taken = [_Box(at.x, -at.radius, at.radius, at.y - at.radius, at.y + at.radius) for at in spots]

    def block(self, x: float, left: float, right: float, top: float, bottom: float) -> None:
        """Keep labels out of a rectangle: `left` and `right` in pixels from `x` per cent, the others from the top."""
        self._taken.append(_Box(x, left, right, top, bottom))

    def place(self, spot: Spot, text: str, class_: str = "tick") -> Markup | None:
        """The label of a point, above, below or beside it; None where no place is free: a legend has to do then."""
        wide, gap = _CHARACTER * len(text), spot.radius + 5
        beside = [("", gap), ("end", -gap)]
        rows = [offset for row in range(_ROWS) for offset in (-gap - 15 * row, gap + _ABOVE + 15 * row)]
        choices = [("middle", 0.0, dy) for dy in rows[:2]]
        choices += [(anchor, dx, 4.0) for anchor, dx in beside]
        choices += [(anchor, dx, dy) for dy in rows for anchor, dx in (("middle", 0.0), ("", -4.0), ("end", 4.0))]
        for anchor, dx, dy in choices:
            left = dx - {"middle": wide / 2, "end": wide}.get(anchor, 0.0)
            box = _Box(spot.x, left, left + wide, spot.y + dy - _ABOVE, spot.y + dy + _BELOW)
            if all(self._is_free(box, width) for width in WIDTHS):
                self._taken.append(box)
                look = f"{class_} {anchor}".strip()
                return element("text", text, x=f"{spot.x:.2f}%", y=f"{spot.y:.2f}", dx=dx, dy=dy, class_=look)
        return None

    def _is_free(self, box: _Box, width: float) -> bool:
        return box.inside(width, self._height) and not any(box.meets(other, width) for other in self._taken)
