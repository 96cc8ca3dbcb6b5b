"""Bits per layer and where they go: payload, side information, index, slack, beside the static entropy."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from maskstore.bank import Account, LayerAccount
from supsup_models.report import plot, wording
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import RunFacts
from supsup_models.report.markup import Content, Markup, element
from supsup_models.report.section import Section, figure, paragraph, table

_NAME, _HEADING = "storage", "Bits by layer, and where they go"
_MOST_BARS = 16
_ROW = 46  # pixels a bar takes with its name
_PARTS = {
    "payload": "Payload: what the coders wrote for the bits",
    "side": "Side information: tables, names, metadata, checksums",
    "index": "Index: what SQLite spends on finding things",
    "slack": "Slack: unfilled pages",
    "log": "Log of a writer at work",
}


@dataclass(frozen=True)
class _Bar:
    """Bits per parameter and task by part, and by the static entropy."""

    name: str
    note: str
    parts: dict[str, float]
    entropy: float

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def storage_section(facts: RunFacts) -> Section:
    """The section; one bar for the file and one for each layer."""
    known = facts.account
    if known is None or not known.tasks or not known.parameters:
        return Section(_NAME, _HEADING, (), "No task is finished yet, so there are no masks to account for.")
    whole = _whole(known)
    layers = [_layer(layer, known.tasks) for layer in _shown(known.layers)]
    text = (
        f"{wording.count(known.total_bytes)} bytes hold {wording.plural(known.tasks, 'mask')} of "
        f"{wording.count(known.parameters)} parameters: {wording.bits(whole.total)} bits for each parameter and task, "
        f"everything in the file counted, of which {wording.bits(whole.parts['payload'])} are payload. "
        f"A coder that knows only how many ones each layer has, given the prior, would take "
        f"{wording.bits(whole.entropy)} without its tables: the static entropy. It is a mark, not a bound. Masks take "
        "less where a coder finds more in them: patterns within a layer, or what they share with other masks."
    )
    bars = [whole, *layers]
    drawn = plot.drawing(_NAME, _HEADING, text, _ROW * len(bars), *_draw(bars), class_="bars")
    used = [part for part in _PARTS if any(bar.parts.get(part) for bar in bars)]
    keys: list[tuple[str, Content]] = [(f"block {part}", _PARTS[part]) for part in used]
    legend = plot.legend(*keys, ("line entropy", "Static entropy given the priors"))
    data = [[bar.name, *(bar.parts.get(part, 0.0) for part in used), bar.entropy] for bar in bars]
    taken = downloads(drawn, ["layer", *(f"{part}, bits / parameter" for part in used), "static entropy"], data)
    return Section(_NAME, _HEADING, (paragraph(text), figure(drawn, legend, taken), *_tables(known, whole)))


def _whole(known: Account) -> _Bar:
    bits = known.tasks * known.parameters
    parts = {part: 8 * size / bits for part, size in _sizes(known).items()}
    return _Bar("whole file", wording.size(known.total_bytes), parts, known.entropy_bits / bits)


def _sizes(known: Account) -> dict[str, int]:
    """Bytes of each part of the file."""
    return {part: getattr(known, f"{part}_bytes") for part in _PARTS}


def _layer(layer: LayerAccount, tasks: int) -> _Bar:
    bits = max(1, layer.parameters * tasks)
    parts = {"payload": 8 * layer.payload_bytes / bits, "side": 8 * layer.side_bytes / bits}
    return _Bar(layer.name, f"{wording.compact(layer.parameters)} weights", parts, layer.entropy_bits / bits)


def _shown(layers: Sequence[LayerAccount]) -> list[LayerAccount]:
    """The layers that get a bar: all of a few, of many those with the most bytes and one for the rest together."""
    if len(layers) <= _MOST_BARS:
        return list(layers)
    by_size = sorted(layers, key=lambda layer: layer.payload_bytes + layer.side_bytes, reverse=True)
    large = {id(layer) for layer in by_size[: _MOST_BARS - 1]}
    rest = [layer for layer in layers if id(layer) not in large]
    together = LayerAccount(
        f"{len(rest)} other layers",
        *(sum(getattr(layer, field.name) for layer in rest) for field in fields(LayerAccount)[1:]),
    )
    return [*(layer for layer in layers if id(layer) in large), together]


def _draw(bars: Sequence[_Bar]) -> list[Markup]:
    longest = max(max(bar.total, bar.entropy) for bar in bars) or 1.0
    marks: list[Markup] = []
    for row, bar in enumerate(bars):
        top = row * _ROW
        marks.append(plot.row_label(top, bar.name, bar.note, wording.bits(bar.total)))
        start = 0.0
        for part, bits in bar.parts.items():
            if bits > 0:
                title = f"{bar.name}, {part}: {wording.bits(bits)} bits per parameter and task"
                place = {"x": f"{100 * start / longest:.3f}%", "width": f"{100 * bits / longest:.3f}%"}
                marks.append(
                    element("rect", element("title", title), **place, y=top + 21, height="16", class_=f"part {part}")
                )
                start += bits
        at = f"{100 * bar.entropy / longest:.3f}%"
        title = f"{bar.name}, static entropy: {wording.bits(bar.entropy)} bits per parameter and task"
        said = element("title", title)
        marks.append(element("line", said, x1=at, x2=at, y1=top + 18, y2=top + 40, class_="bound"))
    return marks


def _tables(known: Account, whole: _Bar) -> tuple[Markup, Markup]:
    parts = [
        [part, wording.count(size), wording.percent(size / known.total_bytes, 1), wording.bits(whole.parts[part])]
        for part, size in _sizes(known).items()
        if size or part != "log"
    ]
    parts.append(["whole file", wording.count(known.total_bytes), "", wording.bits(whole.total)])
    layers = [
        [
            layer.name,
            wording.count(layer.parameters),
            wording.count(layer.payload_bytes),
            wording.count(layer.side_bytes),
            wording.bits(bar.total),
            wording.bits(bar.entropy),
        ]
        for layer, bar in ((layer, _layer(layer, known.tasks)) for layer in known.layers)
    ]
    headings = ["layer", "parameters", "payload bytes", "side bytes", "bits / parameter", "static entropy"]
    return (
        table("Parts of the file", ["part", "bytes", "share", "bits / parameter"], parts),
        table("Every layer", headings, layers),
    )
