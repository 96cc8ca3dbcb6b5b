"""Accuracy against bits, one SVG a data set: a panel for each kind of stream, the Pareto front as a line.

Both axes are logarithmic, the upright one in what is wrong: 98 and 99 % are as far apart as 80 and 90 %.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.storage.cases import KINDS
from benchmarks.storage.results import read

_COLOURS = {"ours": "#1f6feb", "format": "#6e7781", "baseline": "#bc4c00"}
_MARKERS = "osD^vPX*<>hd"
_TICKS = (10, 50, 80, 90, 95, 98, 99, 99.5, 99.9)  # per cent
_LEAST_WRONG = 0.05  # per cent: where nothing is wrong


def plot_path(results: Path, data_set: str) -> Path:
    """Where a data set's plot lies."""
    return results / f"pareto-{data_set}.svg"


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (bits, accuracy) that no other beats in both, by bits."""
    best: list[tuple[float, float]] = []
    for bits, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((bits, accuracy))
    return best


def draw(results: Path, data_set: str) -> None:
    """Draw what there is of a data set; nothing if there is no result of it."""
    paths = {f"{kind} {data_set}": results / f"{kind}-{data_set}.json" for kind in KINDS}
    draw_panels({title: read(path) for title, path in paths.items() if path.exists()}, plot_path(results, data_set))


def draw_panels(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw rows by the title of their panel into a file; nothing if there are none."""
    if not found:
        return
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "maskstore", "font.size": 9}):
        figure = Figure(figsize=(4.2 * len(found) + 2.6, 4.2), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        looks = _looks([row for rows in found.values() for row in rows.items()])
        for axes, (title, rows) in zip(panels, found.items(), strict=True):
            _panel(axes, rows, looks)
            axes.set_title(title)
        panels[0].set_ylabel("accuracy, %")
        handles, labels = panels[0].get_legend_handles_labels()
        legend = "filled: task given\nhollow: task inferred from one image"
        figure.legend(handles, labels, loc="outside right upper", frameon=False, title=legend, alignment="left")
        figure.savefig(path, metadata={"Date": None})


def _looks(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, tuple[str, str]]:
    """Colour by group, marker by method within its group."""
    looks: dict[str, tuple[str, str]] = {}
    for name, row in rows:
        if name not in looks:
            same = sum(colour == _COLOURS[row["group"]] for colour, _ in looks.values())
            looks[name] = (_COLOURS[row["group"]], _MARKERS[same % len(_MARKERS)])
    return looks


def _panel(axes: Any, rows: Mapping[str, Mapping[str, Any]], looks: Mapping[str, tuple[str, str]]) -> None:
    best = [(bits, _wrong(accuracy)) for bits, accuracy in
            front([(row["bits_per_parameter"], row["accuracy"]) for row in rows.values()])]  # fmt: skip
    axes.step(*zip(*best, strict=True), where="post", color="#8c959f", linewidth=1, zorder=1, label="Pareto front")
    for name, row in rows.items():
        colour, marker = looks[name]
        bits, given = row["bits_per_parameter"], _wrong(row["accuracy"])
        if row["inferred"] is not None:
            inferred = _wrong(row["inferred"])
            axes.plot([bits, bits], [given, inferred], color=colour, linewidth=0.6, alpha=0.5, zorder=2)
            axes.plot(bits, inferred, marker, markerfacecolor="white", color=colour, markersize=5, zorder=3)
        axes.plot(bits, given, marker, color=colour, markersize=6, linestyle="none", label=row["title"], zorder=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("bits per parameter and task")
    axes.set_yscale("log")
    axes.invert_yaxis()
    limits = axes.get_ylim()
    axes.set_yticks([100 - tick for tick in _TICKS], [f"{tick:g}" for tick in _TICKS])
    axes.set_ylim(limits)  # ticks outside of what there is would widen it
    axes.minorticks_off()
    axes.grid(alpha=0.25)


def _wrong(accuracy: float) -> float:
    """The upright axis: per cent that is not right."""
    return max(100 * (1 - accuracy), _LEAST_WRONG)
