"""How many weights each layer keeps: the mean over masks and the range from the sparsest to the densest."""

from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Markup, element
from supsup_models.report.section import Section, figure, paragraph, table

_NAME, _HEADING = "density", "Density by layer"
_MOST_LAYERS = 60
_ROW = 42  # pixels a layer takes


def density_section(facts: RunFacts) -> Section:
    """The section; layers stand in the network's order."""
    if facts.spec is None or not len(facts.densities):
        return Section(_NAME, _HEADING, (), "No task is finished yet, so there are no masks to measure.")
    found = facts.densities
    layers = [layer.name for layer in facts.spec]
    sizes = [layer.size for layer in facts.spec]
    overall = float((found.mean(axis=0) * sizes).sum() / max(1, sum(sizes)))
    text = (
        f"Over all layers {wording.percent(overall)} of the weights are kept. Dots are means over "
        f"{wording.plural(len(found), 'mask')}, bars reach from the sparsest to the densest."
    )
    if len(layers) > _MOST_LAYERS:
        text += f" Drawn are the first {_MOST_LAYERS} of {len(layers)} layers."
    shown = layers[:_MOST_LAYERS]
    low, mean, high = found.min(axis=0), found.mean(axis=0), found.max(axis=0)
    x = plot.fraction_axis([*low.tolist(), *high.tolist()], room=0.15, marks=4)
    marks: list[Markup] = []
    for value, label in x.ticks:
        at = f"{x.place(value):.2f}%"
        marks.append(element("line", x1=at, x2=at, y1="0", y2="100%", class_="grid"))
        marks.append(element("text", label, x=at, y="100%", dy="19", class_="tick middle"))
    for row, layer in enumerate(shown):
        marks += _row(x, _ROW * row, layer, float(low[row]), float(mean[row]), float(high[row]))
    marks.append(element("text", "weights kept", x="100%", y="100%", dy="39", class_="axis end"))
    drawn = plot.drawing(_NAME, _HEADING, text, _ROW * len(shown), *marks, class_="rows")
    data = (
        [each, int(size), *(float(part[at]) for part in (mean, low, high))]
        for at, (each, size) in enumerate(zip(layers, sizes, strict=True))
    )
    taken = downloads(drawn, ["layer", "parameters", "mean", "sparsest", "densest"], data)
    rows = [
        [layer, wording.count(size), *(wording.percent(float(each[number])) for each in (mean, low, high))]
        for number, (layer, size) in enumerate(zip(layers, sizes, strict=True))
    ]
    listed = table("Every layer", ["layer", "parameters", "mean", "sparsest", "densest"], rows)
    return Section(_NAME, _HEADING, (paragraph(text), figure(drawn, taken), listed))


def _row(x: plot.Axis, top: int, layer: str, low: float, mean: float, high: float) -> list[Markup]:
    """A layer's name and mean, and below them its range and a dot."""
    line = top + 26
    title = f"{layer}: {wording.percent(mean)}, from {wording.percent(low)} to {wording.percent(high)}"
    first, at, last = (f"{x.place(value):.2f}%" for value in (low, mean, high))
    return [
        element("line", x1="0", x2="100%", y1=line, y2=line, class_="grid"),
        plot.row_label(top - 2, layer, "", wording.percent(mean)),
        element("line", x1=first, x2=last, y1=line, y2=line, class_="range"),
        element("circle", element("title", title), cx=at, cy=line, r="5", class_="point"),
    ]
