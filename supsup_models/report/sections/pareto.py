"""Bits against accuracy: this run, the same masks in other formats, and other methods' results."""

from collections.abc import Sequence

from supsup_models.report import plot, wording
from supsup_models.report.compare import Compared, Point
from supsup_models.report.downloads import downloads
from supsup_models.report.facts import Alternative, RunFacts
from supsup_models.report.judged import Judged
from supsup_models.report.labels import Labels, Spot
from supsup_models.report.markup import Content, Markup, element
from supsup_models.report.section import Section, code, figure, name, paragraph, table

_NAME, _HEADING = "pareto", "Bits against accuracy"
_ENTROPY = "Static entropy given the priors"
_HEADINGS = ["method", "bits per parameter and task", "accuracy", "from"]
_HOW = ("To set others beside it: ", code("supsup report RUN --compare RESULT.json"), ", or another run's folder.")


def pareto_section(facts: RunFacts, judged: Judged | None, compared: Compared) -> Section:
    """The section: up is better, left is smaller."""
    accuracy = judged.last.accuracy if facts.accuracy is None and judged else facts.accuracy
    rate = facts.bits_per_parameter
    if facts.account is None or accuracy is None or not rate:
        return Section(_NAME, _HEADING, (), "This figure takes a finished task and its accuracy; there is none yet.")
    entropy = facts.account.per_parameter(facts.account.entropy_bits)
    height = 300 if compared.points else 220
    others = compared.points
    same = [rate, *(each.bits_per_parameter for each in facts.alternatives)]
    rates = [*same, *(each.bits_per_parameter for each in others), *([entropy] if entropy else [])]
    x = plot.log_axis(rates)
    y = plot.fraction_axis([accuracy, *(each.accuracy for each in others)], room=0.2, shortest=0.02)
    text = _sentence(facts.alternatives, rate, entropy)

    def spot(bits: float, right: float, radius: float) -> Spot:
        return Spot(x.place(bits), height * (1 - y.place(right) / 100), radius)

    # the labels of this run and its alternatives first: the others are numbered below the plot as well
    own = [(spot(rate, accuracy, 7), "this run", "tick strong")]
    own += [(spot(each.bits_per_parameter, accuracy, 4), each.name, "tick") for each in facts.alternatives]
    numbered = [(spot(each.bits_per_parameter, each.accuracy, 5), str(at), "tick") for at, each in enumerate(others, 1)]
    labels = Labels(height, [at for at, _, _ in (*own, *numbered)])
    if entropy:
        labels.block(x.place(entropy), -2, 2, 0, height)
    marks = [
        plot.frame(x, y, "bits per parameter and task", "test accuracy"),
        element("line", element("title", _ENTROPY), **_upright(x.place(entropy)), class_="rule") if entropy else None,
        plot.curve(x, y, [(min(same), accuracy), (max(same), accuracy)], "curve same"),
        [_alternative(x, y, accuracy, each) for each in facts.alternatives],
        [_other(x, y, number, each) for number, each in enumerate(others, 1)],
        _this(x, y, (rate, accuracy)),
        [labels.place(at, label, look) for at, label, look in (*own, *numbered)],
    ]
    drawn = plot.drawing(_NAME, _HEADING, text, height, *marks)
    keys: list[tuple[str, Content]] = [("dot this", "This run"), ("dot other", "The same masks in other formats")]
    if others:
        keys.append(("dot compared", "Other methods and runs, by number"))
    if entropy:
        keys.append(("line static", f"{_ENTROPY}, {wording.bits(entropy)} bits"))
    data: list[list[object]] = [["this run", rate, accuracy, facts.name]]
    data += [[f"the same masks, {each.name}", each.bits_per_parameter, accuracy, ""] for each in facts.alternatives]
    data += [[each.method, each.bits_per_parameter, each.accuracy, each.source] for each in others]
    body = (
        paragraph(text),
        figure(drawn, plot.legend(*keys), _numbered(others), downloads(drawn, _HEADINGS, data)),
        _table(rate, accuracy, facts.alternatives, others),
        _left_out(compared),
        None if others else paragraph(*_HOW),
    )
    return Section(_NAME, _HEADING, body)


def _upright(at: float) -> dict[str, str]:
    return {"x1": f"{at:.2f}%", "x2": f"{at:.2f}%", "y1": "0", "y2": "100%"}


def _sentence(alternatives: Sequence[Alternative], rate: float, entropy: float | None) -> str:
    others = ", ".join(f"{wording.bits(other.bits_per_parameter)} ({other.name})" for other in alternatives)
    text = (
        f"This run takes {wording.bits(rate)} bits per parameter and task, everything in its file counted. The same "
        f"masks, at the same accuracy, would take in other formats: {others}."
    )
    if entropy:
        text += f" The dashed line is the {_ENTROPY.lower()}; it is a mark, not a bound."
    return text


def _this(x: plot.Axis, y: plot.Axis, point: tuple[float, float]) -> Markup:
    title = f"this run: {wording.bits(point[0])} bits per parameter, {wording.percent(point[1])}"
    return plot.dot(x, y, point, title, "point this", 7)


def _alternative(x: plot.Axis, y: plot.Axis, accuracy: float, each: Alternative) -> Markup:
    title = f"{each.name}: {wording.bits(each.bits_per_parameter)} bits per parameter"
    return plot.dot(x, y, (each.bits_per_parameter, accuracy), title, "point other")


def _other(x: plot.Axis, y: plot.Axis, number: int, each: Point) -> Markup:
    point = (each.bits_per_parameter, each.accuracy)
    title = f"{number}. {each.method}: {wording.bits(point[0])} bits per parameter, {wording.percent(point[1])}"
    return plot.dot(x, y, point, title, "point compared", 5)


def _numbered(others: Sequence[Point]) -> Markup | None:
    listed = []
    for each in others:
        figures = f": {wording.bits(each.bits_per_parameter)} bits, {wording.percent(each.accuracy)} ("
        listed.append(element("li", name(each.method), figures, name(each.source), ")"))
    return element("ol", listed, class_="points") if listed else None


def _table(rate: float, accuracy: float, alternatives: Sequence[Alternative], others: Sequence[Point]) -> Markup:
    rows: list[list[Content]] = [["this run", wording.bits(rate), wording.percent(accuracy), "the whole file"]]
    for other in alternatives:
        bits = wording.bits(other.bits_per_parameter)
        rows.append([f"the same masks, {other.name}", bits, wording.percent(accuracy), other.note])
    for number, each in enumerate(others, 1):
        bits = wording.bits(each.bits_per_parameter)
        rows.append([f"{number}. {each.method}", bits, wording.percent(each.accuracy), name(each.source)])
    return table("Every point", ["method", "bits / parameter", "accuracy", "note"], rows, texts=(3,))


def _left_out(compared: Compared) -> Markup | None:
    parts = []
    if compared.other_streams:
        parts.append(f"{wording.plural(compared.other_streams, 'row')} of other streams")
    if compared.incomplete:
        parts.append(f"{wording.plural(compared.incomplete, 'row')} without a method, an accuracy or a size")
    return paragraph("Left out: ", " and ".join(parts), ".") if parts else None
