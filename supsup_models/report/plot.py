"""What all figures share: axes, frames, curves and dots as SVG that fills any width.

Places along an axis are in per cent of the plot and sizes of text and dots in pixels, so that a plot is as wide as the
page while its text stays as large as the page's. Curves need one thing more: they live in an inner `<svg>` that is
stretched, with strokes that are not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log1p, log10
from typing import Literal

from supsup_models.report.markup import Content, Markup, element
from supsup_models.report.section import whole_name

Scale = Literal["linear", "log", "log1p"]
Point = tuple[float, float]
_SHORTEST = 1e-3  # axis of fractions
_LABEL = 20  # pixels a line of text takes
_MOST_TICKS = 6  # of a logarithmic axis: more would meet on a phone
_NEAREST = 0.09  # parts of an axis between two labels, at least


@dataclass(frozen=True)
class Axis:
    """A range of values, how it is laid out, and the values that are marked with their labels."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    scale: Scale = "linear"

    def place(self, value: float) -> float:
        """Where a value is, in per cent from the low end."""
        low, high, at = (_SCALES[self.scale](each) for each in (self.low, self.high, value))
        return 50.0 if high == low else 100 * (at - low) / (high - low)


_SCALES: dict[Scale, Callable[[float], float]] = {"linear": float, "log": log10, "log1p": log1p}


def fraction_axis(values: Iterable[float], *, room: float = 0.08, marks: int = 5, shortest: float = _SHORTEST) -> Axis:
    """An axis in per cent over all fractions, with `room` of its length left on both sides, within 0 and 1.

    At least `shortest` long. About `marks` values are marked, in steps of 1, 2 or 5 times a power of ten.
    """
    known = list(values)
    low, high = min(known), max(known)
    wanting = max(0.0, shortest - (high - low)) / 2
    low, high = low - wanting, high + wanting
    around = room * (high - low)
    low, high = max(low - around, 0.0), min(high + around, 1.0)
    return Axis(low, high, _marked(low, high, _round_step((high - low) / marks), _percent_label))


def number_axis(low: float, high: float, marks: int = 5) -> Axis:
    """An axis from `low` to a little above `high`, with about `marks` round numbers marked."""
    top = high + 0.08 * (high - low)
    return Axis(low, top, _marked(low, top, _round_step((top - low) / marks), lambda value, _: f"{value:g}"))


def count_axis(last: int) -> Axis:
    """An axis for the numbers 1 to `last`, with half a number of room on both sides."""
    ticks = list(whole_marks(1, last))
    if not ticks or ticks[0][0] > 1 + last / 12:
        ticks.insert(0, (1.0, "1"))
    return Axis(0.5, last + 0.5, tuple(ticks))


def whole_marks(first: int, last: int, marks: int = 5) -> tuple[tuple[float, str], ...]:
    """About `marks` round whole numbers from `first` to `last`, with their labels."""
    step = max(1.0, _round_step((last - first + 1) / marks))
    return _marked(first, last, step, lambda value, _: f"{value:g}")


def log_axis(values: Iterable[float], said: Callable[[float], str] = "{:g}".format) -> Axis:
    """A logarithmic axis from below the least to above the greatest of positive values, with up to six marks."""
    known = list(values)
    low, high = min(known) / 1.35, max(known) * 1.35
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)

    def marked(steps: Sequence[float]) -> list[float]:
        return [at for decade in decades for step in steps if low <= (at := step * 10.0**decade) <= high]

    choices = [marked(steps) for steps in ((1, 2, 5), (1, 3), (1,))]
    ticks = next((choice for choice in choices if len(choice) <= _MOST_TICKS), choices[-1])
    ticks = ticks[:: -(-len(ticks) // _MOST_TICKS) or 1]
    if len(ticks) < 2:  # a short axis: these have a mark within any factor of 1.35 squared
        ticks = marked((1, 1.5, 2.5, 4, 6))
    return Axis(low, high, tuple((tick, said(tick)) for tick in ticks), "log")


def log1p_axis(most: float, label: Callable[[float], str]) -> Axis:
    """An axis from 0 upwards for counts of very different sizes: log(1 + value)."""
    top = max(most, 1.0)
    powers = range(ceil(log10(top)) + 1)
    shown = powers[:: max(1, ceil(len(powers) / 5))]
    high = top * 1.3
    marked = [at for power in shown if (at := 10.0**power) <= high and log1p(at) >= _NEAREST * log1p(high)]
    ticks = ((0.0, "0"), *((at, label(at)) for at in marked))
    return Axis(0.0, high, ticks, "log1p")


def drawing(name: str, title: str, description: str, height: int | None, *content: Content, class_: str = "") -> Markup:
    """The `<svg>` of a figure: its title, and what a person who cannot see it would want to be told.

    `height` is in pixels; None leaves it to the style sheet.
    """
    head = (element("title", title, id=f"{name}-title"), element("desc", description, id=f"{name}-text"))
    labels = f"{name}-title {name}-text"
    svg = element("svg", *head, *content, id=name, role="img", aria_labelledby=labels, width="100%", height=height)
    return element("div", svg, class_=f"plot {class_}".strip())


def frame(x: Axis, y: Axis, x_label: str, y_label: str) -> Markup:
    """Grid, marks and names of two axes."""
    parts: list[Markup] = []
    for value, label in y.ticks:
        at = _percent(100 - y.place(value))
        parts.append(element("line", x1="0", x2="100%", y1=at, y2=at, class_="grid"))
        parts.append(element("text", label, x="0", y=at, dx="-8", dy="0.35em", class_="tick end"))
    for value, label in x.ticks:
        at = _percent(x.place(value))
        parts.append(element("line", x1=at, x2=at, y1="100%", y2="100%", class_="grid mark"))
        parts.append(element("text", label, x=at, y="100%", dy="19", class_="tick middle"))
    parts.append(element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="base"))
    parts.append(element("text", x_label, x="100%", y="100%", dy="39", class_="axis end"))
    parts.append(element("text", y_label, x="0", y="0", dx="-46", dy="-14", class_="axis"))
    return element("g", *parts)


def curve(x: Axis, y: Axis, points: Sequence[Point], class_: str, title: str | None = None) -> Markup:
    """A line through points."""
    places = " ".join(f"{_number(x.place(a))},{_number(100 - y.place(b))}" for a, b in points)
    line = element("polyline", None if title is None else element("title", title), points=places, class_=class_)
    box = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none"}
    return element("svg", line, width="100%", height="100%", **box)


def dot(x: Axis, y: Axis, point: Point, title: str, class_: str, radius: float = 4) -> Markup:
    """A dot, whose title shows where a pointer rests on it."""
    across, up = _place(x, y, point)
    return element("circle", element("title", title), cx=across, cy=up, r=_number(radius), class_=class_)


def spread(x: Axis, y: Axis, at: float, low: float, high: float, class_: str = "spread") -> Markup:
    """An upright bar from `low` to `high`."""
    (across, lower), (_, upper) = (_place(x, y, (at, end)) for end in (low, high))
    return element("line", x1=across, x2=across, y1=lower, y2=upper, class_=class_)


def row_label(top: float, name: str, note: str, figure: str) -> Markup:
    """A line of text above a row of a drawing: a name in full as far as there is room, a note, and a figure at the end.

    It is HTML, for SVG text neither wraps nor knows how wide it is.
    """
    line = element(
        "div", whole_name(name), element("span", note, class_="note"), element("b", figure), class_="row-label"
    )
    return element("foreignObject", line, x="0", y=top, width="100%", height=_LABEL)


def legend(*entries: tuple[str, Content]) -> Markup:
    """What the colours stand for: pairs of a class and a name."""
    return element(
        "ul",
        [element("li", element("span", class_=f"key {class_}"), element("span", name)) for class_, name in entries],
        class_="legend",
    )


def _marked(low: float, high: float, step: float, label: Callable[[float, int], str]) -> tuple[tuple[float, str], ...]:
    """Multiples of a step from `low` to `high`, rounding aside, with their labels."""
    decimals = max(0, -floor(log10(step) + 1e-9))
    multiples = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    return tuple((step * number, label(step * number, decimals)) for number in multiples)


def _round_step(step: float) -> float:
    power = 10.0 ** floor(log10(step))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= step * (1 - 1e-9))


def _place(x: Axis, y: Axis, point: Point) -> tuple[str, str]:
    return _percent(x.place(point[0])), _percent(100 - y.place(point[1]))


def _percent_label(value: float, decimals: int) -> str:
    return f"{100 * value:.{max(0, decimals - 2)}f}\u202f%"


def _percent(value: float) -> str:
    return f"{_number(value)}%"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
