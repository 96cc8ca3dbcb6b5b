"""One plain line plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from maskstore.errors import needing


def plot(path: Path, curves: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, title: str) -> None:
    """Write a PNG of curves by name, each a line through its points (x, y)."""
    with needing("matplotlib", path):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=9, wrap=True)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
