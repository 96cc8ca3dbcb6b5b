"""Bytes against the number of tasks: the bank, the same masks packed, and one trained network for each task."""

import numpy as np

from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Markup
from supsup_models.report.section import Section, figure, paragraph

_NAME, _HEADING = "growth", "Bytes against number of tasks"
_FLOAT_BYTES = 4
_MOST_DOTS = 60


def growth_section(facts: RunFacts) -> Section:
    """The section; the bank's curve has each mask's own bytes, and its share of the rest of the file."""
    known = facts.account
    if known is None or not facts.tasks or not known.parameters:
        return Section(_NAME, _HEADING, (), "No task is finished yet, so there are no bytes to count.")
    own = np.cumsum([task.coded_bytes for task in facts.tasks], dtype=np.float64)
    numbers = np.arange(1, len(own) + 1)
    rest = known.total_bytes - own[-1]
    bank = own + rest * numbers / len(own)
    packed = numbers * float(-(-known.parameters // 8))
    networks = numbers * float(_FLOAT_BYTES * known.parameters)
    noun = "task" if facts.task_identity else "mask"
    text = (
        f"The file has {wording.size(known.total_bytes)} for {wording.plural(len(own), noun)}; the weights come from a "
        f"seed. As packed bits the masks would take {wording.size(int(packed[-1]))}. One trained network for each "
        f"{noun}, in 32-bit floats, would take {wording.size(int(networks[-1]))}: "
        f"{wording.compact(round(float(networks[-1]) / known.total_bytes))} times the file."
    )
    x = plot.count_axis(len(own))
    y = plot.log_axis([float(bank[0]), float(networks[-1])], said=lambda value: wording.size(int(value)))
    curves = (("curve networks", networks), ("curve packed", packed), ("curve", bank))
    marks: list[Markup] = []
    for look, values in curves:
        points = [(float(at), float(value)) for at, value in zip(numbers, values, strict=True)]
        if len(points) > 1:
            marks.append(plot.curve(x, y, points, look))
        kind = look.removeprefix("curve").strip()
        for at, value in points if len(points) <= _MOST_DOTS else points[-1:]:
            title = f"{wording.plural(int(at), noun)}: {wording.size(int(value))}"
            marks.append(plot.dot(x, y, (at, value), title, f"point {kind}".strip(), 3))
    grid = plot.frame(x, y, f"number of {noun}s", "bytes, logarithmic")
    drawn = plot.drawing(_NAME, _HEADING, text, 240, grid, *marks)
    legend = plot.legend(
        ("line", "The bank, everything in the file counted"),
        ("line packed", "The same masks as packed bits"),
        ("line networks", f"One trained network for each {noun}, 32-bit floats"),
    )
    headings = [f"{noun}s", "bank bytes", "packed bytes", "bytes of one network each"]
    rows = (
        [int(n), round(float(a)), int(b), int(c)] for n, a, b, c in zip(numbers, bank, packed, networks, strict=True)
    )
    return Section(_NAME, _HEADING, (paragraph(text), figure(drawn, legend, downloads(drawn, headings, rows))))
