"""Plots of recoveries. matplotlib is imported only when one is drawn."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from maskstore import MaskMatrix
from maskstore.errors import needing
from supsup_models.errors import PlotError
from supsup_models.hopsupsup.recover import TaskRecovery


def check_plot(path: Path) -> None:
    """PlotError unless a plot can be drawn into this file; asked before hours of work go into what it shows."""
    with needing("matplotlib", path):
        from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in known:
        raise PlotError(f"{path}: expected a plot's name to end in one of {', '.join(known)}, found {path.suffix!r}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PlotError(f"{path}: expected a file that can be written there, found none")


def hamming_by_step(found: TaskRecovery, masks: MaskMatrix) -> dict[str, list[int]]:
    """Wrong bits of each layer after every step of a recovery."""
    truth = torch.from_numpy(masks[found.task].flat())
    wrong = [state != truth for state in found.recovery.trace.states]
    return {layer.name: [int(bits[layer.flat].sum()) for bits in wrong] for layer in masks.spec}


def plot_recoveries(found: Sequence[TaskRecovery], masks: MaskMatrix, path: Path) -> None:
    """Hamming distance to the true mask by layer and step, one curve a task (figure 7 of Wortsman et al. 2020)."""
    with needing("matplotlib", path):
        from matplotlib.figure import Figure

    layers = list(masks.spec.shapes)
    figure = Figure(figsize=(4 * len(layers), 3), layout="constrained")
    axes = figure.subplots(1, len(layers), squeeze=False)[0]
    for task in found:
        curves = hamming_by_step(task, masks)
        for axis, layer in zip(axes, layers, strict=True):
            axis.plot(range(1, 1 + len(curves[layer])), curves[layer], linewidth=1, alpha=0.7)
    for axis, layer in zip(axes, layers, strict=True):
        axis.set(title=layer, xlabel="batches of unlabelled images", ylim=(0, None))
    axes[0].set_ylabel("wrong bits")
    figure.savefig(path)
