"""Plots of capacity and basins. matplotlib is imported only when one is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hopfield.capacity import BasinPoint, CapacityPoint


def plot_capacity(
    scans: Mapping[str, Sequence[CapacityPoint]], path: Path, *, limits: Mapping[str, float] | None = None
) -> None:
    """Fraction of exact fixed points over patterns per neuron, one curve a name, into a file of any matplotlib format.

    `limits` are loads (patterns per neuron) drawn as dotted lines in the colour of the curve of that name.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for name, points in scans.items():
        (line,) = axis.plot([p.load for p in points], [p.exact for p in points], marker="o", markersize=3, label=name)
        if limits and name in limits:
            axis.axvline(limits[name], color=line.get_color(), linestyle=":", linewidth=1)
    axis.set(xlabel="patterns per neuron", ylabel="exact fixed points", xscale="log", ylim=(-0.02, 1.02))
    axis.legend()
    figure.savefig(path)


def plot_basins(scans: Mapping[str, Sequence[BasinPoint]], path: Path) -> None:
    """Fraction recalled exactly over the fraction of flipped bits in the cue, one curve a name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for name, points in scans.items():
        axis.plot([p.noise for p in points], [p.exact for p in points], marker="o", markersize=3, label=name)
    axis.set(xlabel="flipped bits in the cue", ylabel="recalled exactly", ylim=(-0.02, 1.02))
    axis.legend()
    figure.savefig(path)
