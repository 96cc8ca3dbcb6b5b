"""How sure guesses are: by how far the best mask leads, and whether the confidence of labels is what comes true."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.judged import Judged, NoData, Sureness
from supsup_models.report.markup import Markup, element
from supsup_models.report.section import Section, figure, paragraph

_NAME, _HEADING = "sureness", "How sure the answers are"
_BARS = 24
_BINS = 10
_FEW = 10  # images in a bin, below which a share says little


def sureness_section(judged: Judged | NoData | None) -> Section:
    """The section; it takes test images, judged one by one."""
    if not isinstance(judged, Judged):
        return Section(_NAME, _HEADING, (), "This figure takes test images; none were looked at.")
    found = judged.sureness
    if found is None:
        return Section(
            _NAME, _HEADING, (), "This figure takes inferences from single images, and masks to choose from."
        )
    calibration, error = _calibration(found)
    panels = [*([_margins(found)] if found.margins.size else []), calibration]
    texts = []
    if found.margins.size:
        led = float(np.median(found.margins))
        wrong = int((~found.found).sum())
        texts.append(
            f"The best mask leads the second best by {led:.2g} standard deviations of the scores of all masks, in "
            f"the median of {wording.plural(len(found.margins), 'image')}. For {wording.count(wrong)} of them it "
            "is not the mask of their task."
        )
    said, true = (wording.percent(float(each.mean()), 1) for each in (found.confidences, found.right))
    texts.append(
        f"The network gives its label a probability of {said} on average, and is right for {true}. The mean distance "
        f"between the two, over bins of equal width, is {100 * error:.1f} points (the expected calibration error)."
    )
    body = (paragraph(" ".join(texts)), element("div", panels, class_="panels two"))
    return Section(_NAME, _HEADING, body)


def _margins(found: Sureness) -> Markup:
    most = float(np.quantile(found.margins, 0.99)) or 1.0
    edges = np.linspace(0.0, most, _BARS + 1)
    clipped = np.minimum(found.margins, most)
    right, wrong = (np.histogram(clipped[found.found == good], edges)[0] for good in (True, False))
    x = plot.number_axis(0.0, most)
    y = plot.number_axis(0.0, float(max(1, int((right + wrong).max()))))
    marks: list[Markup] = [plot.frame(x, y, "lead, standard deviations", "images")]
    for low, high, good, bad in zip(edges, edges[1:], right, wrong, strict=False):
        title = f"{low:.2g} to {high:.2g}: {good} with the right task, {bad} with a wrong one"
        marks += _bar(x, y, (float(low), float(high)), (0.0, float(bad)), "part wrong", title)
        marks += _bar(x, y, (float(low), float(high)), (float(bad), float(bad + good)), "part payload", title)
    text = f"Leads of the best mask for {len(found.margins)} images; the last bar has all that are greater."
    drawn = plot.drawing(f"{_NAME}-margins", f"{_HEADING}: leads", text, 220, *marks)
    legend = plot.legend(("block payload", "task right"), ("block log", "task wrong"))
    rows = zip(found.margins.tolist(), found.found.astype(int).tolist(), strict=True)
    return figure(drawn, legend, downloads(drawn, ["lead", "task right"], rows))


def _bar(
    x: plot.Axis, y: plot.Axis, across: tuple[float, float], up: tuple[float, float], look: str, title: str
) -> Iterator[Markup]:
    if up[1] > up[0]:
        left, right = (x.place(value) for value in across)
        bottom, top = (y.place(value) for value in up)
        place = {"x": f"{left:.2f}%", "y": f"{100 - top:.2f}%"}
        extent = {"width": f"{right - left:.2f}%", "height": f"{top - bottom:.2f}%"}
        yield element("rect", element("title", title), **place, **extent, class_=look)


def _calibration(found: Sureness) -> tuple[Markup, float]:
    bins = np.minimum((found.confidences * _BINS).astype(int), _BINS - 1)
    counts: NDArray[np.int64] = np.bincount(bins, minlength=_BINS)
    said, true = (
        np.bincount(bins, each, minlength=_BINS) / np.maximum(1, counts) for each in (found.confidences, found.right)
    )
    error = float((np.abs(said - true) * counts).sum() / counts.sum())
    ticks = tuple((value, f"{100 * value:.0f}{wording.SPACE}%") for value in (0.0, 0.25, 0.5, 0.75, 1.0))
    axis = plot.Axis(0.0, 1.0, ticks)
    marks = [plot.frame(axis, axis, "probability given to the label", "labels right")]
    marks.append(plot.curve(axis, axis, [(0.0, 0.0), (1.0, 1.0)], "curve same"))
    for a, b, count in zip(said.tolist(), true.tolist(), counts.tolist(), strict=True):
        if count:
            radius = 3 + 5 * (count / counts.max()) ** 0.5
            title = f"{wording.plural(count, 'image')} at {wording.percent(a, 1)}: {wording.percent(b, 1)} right"
            marks.append(plot.dot(axis, axis, (a, b), title, "point" if count >= _FEW else "point given", radius))
    text = "Share of right labels against the probability that the network gave them; on the line the two are equal."
    drawn = plot.drawing(f"{_NAME}-calibration", f"{_HEADING}: calibration", text, 220, *marks)
    legend = plot.legend(("dot", "Images of a bin; larger with more"), ("dot given", f"Fewer than {_FEW} images"))
    rows = zip(counts.tolist(), said.tolist(), true.tolist(), strict=True)
    return figure(drawn, legend, downloads(drawn, ["images", "mean probability", "share right"], rows)), error
