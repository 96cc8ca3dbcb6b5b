"""Which task is taken for which: a heat map of true tasks against inferred ones."""

import numpy as np
from numpy.typing import NDArray

from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts
from supsup_models.report.judged import Judged, NoData
from supsup_models.report.markup import Content, Markup, element
from supsup_models.report.section import Section, code, figure, name, paragraph, table

_NAME, _HEADING = "confusion", "Which task is taken for which"
_MOST_CELLS = 50  # along a side; more tasks than that share cells
_NUMBERED = 10  # up to so many along a side, cells say their share
_ROOMY = 5  # up to so many, with a decimal
_WORST = 10  # pairs in the table


def confusion_section(facts: RunFacts, judged: Judged | NoData | None) -> Section:
    """The section; None where nobody wanted images to be looked at, NoData where there were none."""
    if not facts.tasks:
        return Section(_NAME, _HEADING, (), "No task is finished yet, so there is none to infer.")
    if judged is None:
        return Section(_NAME, _HEADING, (), "This page was made without looking at test images.")
    if isinstance(judged, NoData) and judged.python:
        how = ("To see it, make this page in Python: ", code("make_report(Run.open(folder, model, stream))"), ".")
        return Section(_NAME, _HEADING, (paragraph(*how),), "This run's network or data were given in Python.")
    if isinstance(judged, NoData):
        how = ("To see it, make this page with the data set at hand: ", code("supsup report RUN --data DIR"), ".")
        missing = f"The test images of {judged.data_set} were not at hand when this page was made."
        return Section(_NAME, _HEADING, (paragraph(*how),), missing)
    return _drawn(judged)


def _drawn(judged: Judged) -> Section:
    identity = judged.last.scenario != "NNs"
    tasks, masks = judged.confusion.shape
    # as many tasks in a row of cells as in a column, so that the diagonal stays one
    per_row = max(1, -(-(max(tasks, masks) if identity else tasks) // _MOST_CELLS))
    per_column = per_row if identity else max(1, -(-masks // _MOST_CELLS))
    shares = _shares(judged.confusion, per_row, per_column)
    text = _sentence(judged)
    y_name, x_name = "true task", "inferred task" if identity else "chosen mask"
    x, y = _axis(masks, per_column), _axis(tasks, per_row, down=True)
    marks = (
        plot.frame(x, y, x_name, y_name),
        _cells(judged, shares, per_row, per_column),
        element("rect", width="100%", height="100%", class_="edge"),
    )
    drawn = plot.drawing(_NAME, _HEADING, text, None, *marks, class_="heat")
    ends = [f"0{wording.SPACE}%", f"100{wording.SPACE}% of a row's images"]
    if per_row > 1:
        ends[1] += f"; {per_row} tasks to a cell"
    scale = element("p", ends[0], element("span", class_="ramp"), ends[1], class_="scale")
    headings = [y_name, x_name, "images", "share"]
    data = (
        [judged.last.per_task[row].task, judged.masks[column], int(judged.confusion[row, column])]
        for row, column in np.argwhere(judged.confusion > 0).tolist()
    )
    taken = downloads(drawn, [y_name, x_name, "images"], data)
    listed = table("What is confused most", headings, _worst(judged, identity), folded=False, texts=(1,))
    return Section(
        _NAME, _HEADING, (paragraph(text), element("div", figure(drawn, scale, taken), listed, class_="beside"))
    )


def _sentence(judged: Judged) -> str:
    sampled = "" if judged.last.interval is None else " sampled"
    images = wording.count(judged.confusion.sum()) + sampled
    inference = judged.inference
    how = f"{inference.method} with {inference.objective}, {wording.plural(inference.images, 'image')} an inference"
    found = wording.percent(judged.last.task_accuracy)
    if judged.last.scenario == "NNs":
        return (
            f"No mask is a task's here. Of {images} test images {found} get a mask that is mostly their own "
            f"task's ({how})."
        )
    return (
        f"The right task is found for {found} of {images} test images ({how}). Rows are true tasks; where "
        f"nothing is confused, only the diagonal is coloured."
    )


def _shares(confusion: NDArray[np.int64], per_row: int, per_column: int) -> NDArray[np.float64]:
    """Shares of each row of cells' images, `(rows, columns)`, each row's sum 1."""
    rows = np.add.reduceat(confusion, np.arange(0, confusion.shape[0], per_row), axis=0)
    cells = np.add.reduceat(rows, np.arange(0, confusion.shape[1], per_column), axis=1)
    return np.asarray(cells / np.maximum(1, cells.sum(axis=1, keepdims=True)))


def _axis(count: int, group: int, *, down: bool = False) -> plot.Axis:
    """Tasks by their number, from 0 as their names have it; `down` has the first at the top."""
    cells = -(-count // group)
    marks = plot.whole_marks(0, count - 1, _NUMBERED)
    ticks = tuple(((at + 0.5) / group, label) for at, label in marks)
    return plot.Axis(*((float(cells), 0.0) if down else (0.0, float(cells))), ticks)


def _cells(judged: Judged, shares: NDArray[np.float64], per_row: int, per_column: int) -> list[Markup]:
    rows, columns = shares.shape
    names = tuple(each.task for each in judged.last.per_task)
    marks = []
    for row, column in np.argwhere(shares > 0).tolist():
        share = float(shares[row, column])
        at = {"x": f"{100 * column / columns:.3f}%", "y": f"{100 * row / rows:.3f}%"}
        extent = {"width": f"{100 / columns:.3f}%", "height": f"{100 / rows:.3f}%"}
        pair = f"{_group(names, row, per_row)} → {_group(judged.masks, column, per_column)}"
        title = element("title", f"{pair}: {wording.percent(share, 1)}")
        # shares of a few per cent are what one looks for, so they must be seen
        opacity = f"{0.12 + 0.88 * share:.3f}"
        marks.append(element("rect", title, **at, **extent, fill_opacity=opacity, class_="cell"))
        if max(rows, columns) <= _NUMBERED:
            place = {"x": f"{100 * (column + 0.5) / columns:.3f}%", "y": f"{100 * (row + 0.5) / rows:.3f}%"}
            shown = _share(share, max(rows, columns))
            ink = "middle on-cell" if share > 0.5 else "middle in-cell"
            marks.append(element("text", shown, **place, dy="0.35em", class_=ink))
    return marks


def _share(share: float, cells: int) -> str:
    """A share in per cent, in as few characters as so many cells in a row have room for; never 0 or 100 by rounding."""
    if cells <= _ROOMY:
        return f"{min(max(100 * share, 0.1), 100.0 if share == 1 else 99.9):.1f}".removesuffix(".0")
    return "<1" if share < 0.01 else f"{int(100 * share + 1e-9)}"


def _group(names: tuple[str, ...], index: int, size: int) -> str:
    first, last = index * size, min(len(names), (index + 1) * size) - 1
    return names[first] if first == last else f"{names[first]} to {names[last]}"


def _worst(judged: Judged, identity: bool) -> list[list[Content]]:
    """The pairs of tasks with the most wrong inferences (NNs: the masks with the most images), the largest first."""
    counts = judged.confusion.copy()
    if identity:
        np.fill_diagonal(counts, 0)
    totals = judged.confusion.sum(axis=1)
    order = np.argsort(-counts, axis=None, kind="stable")[:_WORST]
    rows: list[list[Content]] = []
    for row, column in zip(*np.unravel_index(order, counts.shape), strict=True):
        wrong = int(counts[row, column])
        if wrong:
            share = wording.percent(wrong / max(1, int(totals[row])), 1)
            rows.append([judged.last.per_task[row].task, name(judged.masks[column]), wording.count(wrong), share])
    return rows or [["none", "–", "0", "–"]]
