"""How much the masks of two tasks have in common, beside what chance gives."""

import numpy as np

from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Markup, element
from supsup_models.report.section import Section, figure, paragraph

_NAME, _HEADING = "overlap", "What masks have in common"


def overlap_section(facts: RunFacts) -> Section:
    """The section; it takes two masks."""
    found = facts.overlap
    if found is None:
        return Section(_NAME, _HEADING, (), "This figure takes two masks; there are not that many yet.")
    count = len(found.names)
    pairs = found.shares[np.triu_indices(count, 1)]
    which = f"{count} of {len(facts.tasks)} masks, evenly spaced" if count < len(facts.tasks) else f"{count} masks"
    mean, least, most = (wording.percent(float(each), 1) for each in (pairs.mean(), pairs.min(), pairs.max()))
    text = (
        f"Of the weights that one of two masks keeps, both keep {mean} on average, from {least} to {most} (the Jaccard "
        f"index, over all pairs of {which}). Masks of the same density in each layer that are drawn by chance would "
        f"have {wording.percent(found.by_chance, 1)} in common."
    )
    low, high = float(pairs.min()), float(pairs.max())
    ticks = tuple((at + 0.5, label) for at, label in plot.whole_marks(0, count - 1, 10))
    x, y = plot.Axis(0.0, float(count), ticks), plot.Axis(float(count), 0.0, ticks)
    marks: list[Markup] = [plot.frame(x, y, "mask", "mask")]
    for row, column in np.ndindex(count, count):
        if row == column:
            continue
        share = float(found.shares[row, column])
        title = element("title", f"{found.names[row]} and {found.names[column]}: {wording.percent(share, 1)}")
        at = {"x": f"{100 * column / count:.3f}%", "y": f"{100 * row / count:.3f}%"}
        extent = {"width": f"{100 / count:.3f}%", "height": f"{100 / count:.3f}%"}
        depth = (share - low) / (high - low) if high > low else 0.5
        opacity = f"{0.12 + 0.88 * depth:.3f}"
        marks.append(element("rect", title, **at, **extent, fill_opacity=opacity, class_="cell"))
    marks.append(element("rect", width="100%", height="100%", class_="edge"))
    drawn = plot.drawing(_NAME, _HEADING, text, None, *marks, class_="heat")
    ends = wording.percent(low, 1), wording.percent(high, 1)
    scale = element("p", ends[0], element("span", class_="ramp"), ends[1], class_="scale")
    rows = (
        [found.names[row], found.names[column], float(found.shares[row, column])]
        for row, column in zip(*np.triu_indices(count, 1), strict=True)
    )
    taken = downloads(drawn, ["mask", "other mask", "Jaccard index"], rows)
    return Section(_NAME, _HEADING, (paragraph(text), element("div", figure(drawn, scale, taken), class_="beside")))
