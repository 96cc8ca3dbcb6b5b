"""How training went: the loss and the accuracy of batches along the way, a curve for each task, and their mean."""

from collections.abc import Callable, Sequence

import numpy as np

from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Content, Markup, element
from supsup_models.report.section import Section, figure, paragraph, table
from supsup_models.runs import Curve

_NAME, _HEADING = "training", "Loss and accuracy in training"
_MOST_CURVES = 200


def training_section(facts: RunFacts) -> Section:
    """The section; runs without task identity, and those of earlier versions, have no curves."""
    known = [(task.name, task.curve) for task in facts.tasks if task.curve is not None]
    if not known:
        if not facts.task_identity:
            return Section(_NAME, _HEADING, (), "Training without task identity records no curves.")
        return Section(_NAME, _HEADING, (), "This run's record has no curves of training.")
    curves = [curve for _, curve in known]
    text = (
        f"Each of {wording.plural(len(curves), 'task')} is a thin curve; the thick one is their mean. A point is what "
        "one batch showed before its step: the cross-entropy in nats, and the share of its images labelled right. "
        "Batches differ, so curves are rough, and so few images are no test."
    )
    if len(curves) > _MOST_CURVES:
        text += f" Drawn are the first {_MOST_CURVES}."
    losses = _panel(curves, "loss", lambda curve: curve.losses, _loss_axis)
    accuracies = _panel(curves, "accuracy", lambda curve: curve.accuracies, plot.fraction_axis)
    rows: list[list[Content]] = [
        [
            name,
            wording.count(curve.batches[-1]),
            *(f"{values[at]:.4g}" for values in (curve.losses, curve.accuracies) for at in (0, -1)),
        ]
        for name, curve in known
    ]
    headings = ["task", "batches", "first loss", "last loss", "first accuracy", "last accuracy"]
    drawn_rows = [
        [name, at, loss, accuracy]
        for name, curve in known
        for at, loss, accuracy in zip(curve.batches, curve.losses, curve.accuracies, strict=True)
    ]
    data = ["task", "batches", "loss (nats)", "accuracy of the batch"]
    taken = [downloads(each, data, drawn_rows) for each in (losses, accuracies)]
    panels = element(
        "div", *(element("div", *pair) for pair in zip((losses, accuracies), taken, strict=True)), class_="panels two"
    )
    return Section(_NAME, _HEADING, (paragraph(text), figure(panels), table("Every task", headings, rows)))


def _panel(
    curves: Sequence[Curve],
    quantity: str,
    values: Callable[[Curve], tuple[float, ...]],
    make_axis: Callable[[list[float]], plot.Axis],
) -> Markup:
    shown = curves[:_MOST_CURVES]
    last = max(curve.batches[-1] for curve in curves)
    x = plot.Axis(0.0, float(last), plot.whole_marks(0, last, 4))
    y = make_axis([value for curve in curves for value in values(curve)])
    marks = [_drawn(x, y, curve.batches, values(curve), "curve task") for curve in shown]
    same = [curve for curve in curves if curve.batches == curves[0].batches]
    mean = np.mean([values(curve) for curve in same], axis=0).tolist()
    marks.append(_drawn(x, y, same[0].batches, mean, "curve mean"))
    end = (float(same[0].batches[-1]), float(mean[-1]))
    marks.append(plot.dot(x, y, end, f"mean {quantity} of the last batches: {mean[-1]:.4g}", "point", 3))
    text = f"The {quantity} of batches while {wording.plural(len(curves), 'task')} were trained."
    grid = plot.frame(x, y, "batches", "loss (nats)" if quantity == "loss" else "accuracy of the batch")
    return plot.drawing(f"{_NAME}-{quantity}", f"{_HEADING}: {quantity}", text, 220, grid, *marks)


def _drawn(x: plot.Axis, y: plot.Axis, batches: Sequence[int], values: Sequence[float], class_: str) -> Markup:
    points = [(float(at), float(value)) for at, value in zip(batches, values, strict=True)]
    if len(points) == 1:
        return plot.dot(x, y, points[0], f"{values[0]:.4g}", "point", 2.2)
    return plot.curve(x, y, points, class_)


def _loss_axis(values: list[float]) -> plot.Axis:
    """From 0, or below where a loss is, to above the greatest."""
    low, high = min(0.0, *values), max(values)
    return plot.number_axis(low, high if high > low else low + 1.0)
