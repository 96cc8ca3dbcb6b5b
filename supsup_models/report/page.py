"""The page: one HTML text that needs nothing else, and says so to the browser."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

import maskstore
from supsup_models.report import sections, wording
from supsup_models.report.compare import Compared
from supsup_models.report.facts import RunFacts
from supsup_models.report.judged import Judged, NoData
from supsup_models.report.markup import Markup, element
from supsup_models.report.recovery import Recovered
from supsup_models.report.section import Section, code, name
from supsup_models.runs import History

GENERATOR = "supsup report"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_SCENARIOS = (
    "GG: the task of an image is given, in training and in the test. GNu: it is given in training only; an answer "
    "counts if the task is found and the label is right. NNs: it is never given; an answer counts if the label is "
    "right."
)


@dataclass(frozen=True)
class Page:
    """A rendered page; `drawn` and `missing` name its sections with and without a figure."""

    html: str
    drawn: tuple[str, ...]
    missing: tuple[str, ...]


def render(
    facts: RunFacts,
    judged: Judged | NoData | None = None,
    recovered: Recovered | None = None,
    compared: Compared = Compared(()),
) -> Page:
    """The page of a run. The same arguments give the same bytes."""
    images = judged if isinstance(judged, Judged) else None
    figures = (
        sections.accuracy_section(facts, images, compared),
        sections.training_section(facts),
        sections.storage_section(facts),
        sections.growth_section(facts),
        sections.pareto_section(facts, images, compared),
        sections.confusion_section(facts, judged),
        sections.sureness_section(judged),
        sections.overlap_section(facts),
        sections.recovery_section(facts, recovered),
        sections.density_section(facts),
    )
    seeds = sections.seeds_section(facts)
    about = (sections.configuration_section(facts), sections.commands_section(facts))
    all_sections = (*figures[:1], *([] if seeds is None else [seeds]), *figures[1:], *about)
    body = (
        _header(facts, images),
        _navigation(all_sections),
        element("main", [each.render() for each in all_sections]),
        _footer(),
    )
    page = element("html", _head(facts), element("body", *body), lang="en")
    return Page(
        f"<!doctype html>\n{page.text}\n",
        tuple(each.name for each in figures if each.missing is None),
        tuple(each.name for each in figures if each.missing is not None),
    )


def _head(facts: RunFacts) -> Markup:
    style = files("supsup_models.report").joinpath("style.css").read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name_="generator", content=f"{GENERATOR} {maskstore.__version__}"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("meta", name_="referrer", content="no-referrer"),
        element("title", f"{facts.name}: {facts.record.config.stream}, {_tasks(facts)}"),
        Markup(f"<style>\n{style}</style>\n"),
    )


def _header(facts: RunFacts, judged: Judged | None) -> Markup:
    config = facts.record.config
    versions, record_device = facts.record.versions, facts.record.device
    outputs = facts.record.network.outputs
    made = [f"{key} {versions[key]}" for key in ("maskstore", "torch", "python") if key in versions]
    made.append(record_device if (history := facts.record.history) is None else _trained(history, record_device))
    rest = f" · {wording.count(config.batches)} batches a task · seed {config.seed}"
    if not config.task_identity:
        rest += " · no task identity (NNs)"
    about = (name(config.model), f" with {wording.plural(outputs, 'output')} · recipe ", name(config.recipe), rest)
    state, look = ("finished", "state") if facts.finished else ("unfinished", "state open")
    return element(
        "header",
        element("p", "Run ", name(facts.name), " ", element("span", state, class_=look), class_="run"),
        element("h1", name(config.stream), ", ", _tasks(facts)),
        element("p", *about, class_="about"),
        element("p", name(" · ".join(made)), class_="made"),
        element("dl", _tiles(facts, judged), class_="tiles"),
        element("p", _SCENARIOS, class_="scenarios"),
    )


def _trained(history: History, device: str) -> str:
    """When, for how long and on what a run was trained."""
    cores = "" if device == "cuda" else f", {wording.plural(history.cores, 'core')}"
    where = ", ".join(history.processors)
    return f"trained {history.started[:10]} for {wording.seconds(history.seconds)} on {where}{cores}"


def _tasks(facts: RunFacts) -> str:
    config = facts.record.config
    if not config.task_identity:
        return f"{wording.plural(config.tasks, 'task')}, {wording.plural(len(facts.tasks), 'mask')}"
    if facts.finished:
        return wording.plural(len(facts.tasks), "task")
    return f"{wording.count(len(facts.tasks))} of {wording.plural(config.tasks, 'task')}"


def _tiles(facts: RunFacts, judged: Judged | None) -> Iterable[Markup]:
    known = facts.account
    planned = facts.record.config.tasks
    if facts.task_identity:
        seed = f", seed {facts.record.config.seed}" if facts.seeds else ""
        yield _tile("accuracy (GG)", wording.percent(facts.accuracy), f"task given, mean over tasks{seed}")
    if (spread := sections.seed_spread(facts)) is not None:
        note = f"± {wording.percent(spread[1])} over {len(facts.seeds)} seeds"
        yield _tile("accuracy, all seeds", wording.percent(spread[0]), note)
    if judged is not None:
        where = "task inferred" if judged.last.scenario == "GNu" else "no task known"
        sampled = "" if judged.last.interval is None else " sampled"
        note = f"{where}, {wording.count(judged.confusion.sum())} images{sampled}"
        if judged.last.given_accuracy is not None:
            note += f"; {wording.percent(judged.last.given_accuracy)} of them with the task given"
        yield _tile(f"accuracy ({judged.last.scenario})", wording.percent(judged.last.accuracy), note)
    noun = "tasks" if facts.task_identity else "masks"
    note = "the whole stream" if facts.finished else f"of {wording.plural(planned, 'task')}"
    yield _tile(noun, wording.count(len(facts.tasks)), note)
    if known is None:
        return
    yield _tile("bits per parameter", wording.bits(facts.bits_per_parameter), "and task, everything counted")
    yield _tile("file size", wording.size(known.total_bytes), f"{wording.count(known.total_bytes)} bytes")
    yield _tile("parameters", wording.compact(known.parameters), f"{wording.count(known.parameters)} bits a mask")


def _tile(title: str, figure: str, note: str) -> Markup:
    # a name before its value, as a list of terms wants it; the style sheet puts the figure on top
    return element(
        "div", element("dt", title), element("dd", figure, class_="figure"), element("dd", note, class_="note")
    )


def _navigation(listed: Sequence[Section]) -> Markup:
    links = [element("a", each.heading, href=f"#{each.name}-heading") for each in listed]
    return element("nav", links, aria_label="Sections")


def _footer() -> Markup:
    rest = f", maskstore {maskstore.__version__}. This page holds everything it shows and fetches nothing."
    return element("footer", "Made by ", code(GENERATOR), rest)
