"""The page in a real browser: every figure is drawn, nothing is fetched, nothing is wider than the window."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from supsup_models.cli.app import run_command
from supsup_models.inference.scenarios import Evaluation, Inference, TaskResult
from supsup_models.report import Compared, read_run, render
from supsup_models.report.compare import Point
from supsup_models.report.judged import Judged
from supsup_models.report.recovery import Recovered, RecoveredTask
from tests.helpers import browser as headless
from tests.helpers import figures
from tests.helpers.browser import Page
from tests.helpers.runs import HOSTILE, hostile_run, made_run, trained_run

pytestmark = pytest.mark.browser

DRAWN = """
Array.from(document.querySelectorAll('svg[role=img]'), drawing => {
  const box = drawing.getBBox(), place = drawing.getBoundingClientRect()
  const marks = Array.from(drawing.querySelectorAll('circle, rect, polyline'))
  const seen = marks.filter(mark => {
    const at = mark.getBoundingClientRect(), look = getComputedStyle(mark)
    return at.width + at.height > 0 && (look.fill != 'none' || look.stroke != 'none')
      && at.right > place.left - 1 && at.left < place.right + 1
      && at.bottom > place.top - 9 && at.top < place.bottom + 9
  })
  const text = Array.from(drawing.querySelectorAll('text, .row-label'), each => each.getBoundingClientRect())
  return {
    name: drawing.id, width: box.width, height: box.height, marks: marks.length, seen: seen.length,
    smallest: Math.min(...text.map(each => each.height)), left: Math.min(...text.map(each => each.left)),
    right: Math.max(...text.map(each => each.right)), title: drawing.querySelector('title').textContent
  }
})
"""

OVERLAPS = """
Array.from(document.querySelectorAll('svg[role=img]')).flatMap(drawing => {
  const labels = Array.from(drawing.querySelectorAll('text, .row-label > *'), each => {
    return { text: each.textContent, at: each.getBoundingClientRect() }
  }).filter(each => each.text && each.at.width)
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2
  return labels.flatMap((one, index) => labels.slice(index + 1)
    .filter(other => meet(one.at, other.at)).map(other => `${drawing.id}: ${one.text} on ${other.text}`))
})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a headless browser."""
    program = headless.find()
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(headless.NAMES)} is on the PATH")
    with headless.browser(program, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every figure on it."""
    folder = tmp_path_factory.mktemp("report")
    wrong = [900, 400, 3, 0, 0]
    curve = {"fc1": wrong, "fc2": wrong, "fc3": [*wrong[:4], 2]}
    answer = {layer: steps[-1] for layer, steps in curve.items()}
    tasks = [{"task": task, "exact": task == 0, "hamming": answer, "hamming_by_step": curve} for task in range(3)]
    result = {"recipe": "mean-field", "memory": "a memory", "accuracy": 0.9, "true_accuracy": 0.91, "overlap_argmax": 3}
    (folder / "recovery.json").write_text(json.dumps({**result, "per_task": tasks}))
    points = (("another", 0.8, 0.2), ("a third", 0.99, 32.0))
    rows = [{"method": name, "accuracy": right, "bits_per_parameter": bits} for name, right, bits in points]
    (folder / "results.json").write_text(json.dumps({"rows": rows}))
    out = folder / "report.html"
    arguments = ["--recovery", str(folder / "recovery.json"), "--compare", str(folder / "results.json"), "-o", str(out)]
    assert run_command(["report", str(trained_run(folder / "run")), *arguments]) == 0
    return out


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_drawn(page: Page, report: Path, width: int, scheme: str) -> None:
    page.show(report, width=width, scheme=scheme)
    drawn = page.evaluate(DRAWN)
    assert [figure["name"] for figure in drawn] == figures.pictures()
    for figure in drawn:
        assert figure["width"] > 150, figure
        assert figure["height"] > 100, figure
        assert figure["marks"] == figure["seen"] > 2, figure
        assert figure["smallest"] > 10, figure  # as large on a phone as anywhere
        assert figure["left"] >= 0, figure
        assert figure["right"] <= width, figure
        assert figure["title"]


@pytest.mark.parametrize("width", [1100, 360])
def test_nothing_is_fetched_said_or_scrolled_sideways(page: Page, report: Path, width: int) -> None:
    page.show(report, width=width)
    assert page.requests == [report.resolve().as_uri()]
    assert page.complaints == []
    # open all tables too: they scroll by themselves
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('table').length") > 8


def test_light_and_dark_look_different(page: Page, report: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.show(report, scheme=scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(246, 247, 249)", "rgb(16, 20, 24)"]


def test_printed_it_is_light(page: Page, report: Path) -> None:
    page.show(report, scheme="dark")
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_hostile_names_run_nothing(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render(read_run(hostile_run(tmp_path))).html, encoding="utf-8")
    page.show(path, width=360)
    assert page.requests == [path.resolve().as_uri()]
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('script, img, h1 > h1').length") == 0
    assert page.evaluate("document.querySelector('tbody th bdi').textContent") == HOSTILE[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_long_names_stay_inside_a_phone(page: Page, tmp_path: Path) -> None:
    long = "a-very-long-name-without-any-space-" * 4
    run = made_run(tmp_path / long[:120], (long, "b"), {long: (4, 8), "fc": (4, 8)}, tasks=2, stream=long, model=long)
    path = tmp_path / "long.html"
    path.write_text(render(read_run(run)).html, encoding="utf-8")
    page.show(path, width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for figure in page.evaluate(DRAWN):
        assert figure["left"] >= 0, figure
        assert figure["right"] <= 360, figure


def _crowded(folder: Path, case: int) -> Path:
    """A page on whose plots much lies together: points, layers, tasks, steps."""
    draw = np.random.default_rng(case)
    tasks = (1, 2, 5, 10, 11, 120)[case % 6]
    layers = {f"blocks.{number}.mixer.projection.weight": (4, 2 + number) for number in range((1, 3, 20, 70)[case % 4])}
    run = made_run(folder / f"run-{case}", tuple(f"task-{at}" for at in range(tasks)), layers, tasks=tasks)
    facts = read_run(run)
    names = tuple(task.name for task in facts.tasks)
    each = tuple(TaskResult(name, 0.9, 0.9, 100, 0.91) for name in names)
    steps = (Evaluation("GNu", tasks, 0.9, 0.9, 0.1, each, 100 * tasks, (0.88, 0.92), 0.91),)
    judged = Judged(Inference(objective="H"), steps, names, draw.integers(1, 400, (tasks, tasks)))
    rate = facts.bits_per_parameter or 1.0
    around = draw.normal(1, (0.0, 0.02, 0.5)[case % 3], 12)
    points = [Point(f"method {at}", rate * abs(factor), 0.92, "file") for at, factor in enumerate(around)]
    wrong = tuple(draw.integers(0, 10 ** (1 + case % 6), 1 + 7 * case).tolist())
    recovered = Recovered(
        "r", "m", (RecoveredTask(0, False, dict.fromkeys(layers, wrong)),), tuple(layers), 0, 0.9, 0.9
    )
    path = folder / f"{case}.html"
    path.write_text(render(facts, judged, recovered, Compared(tuple(points))).html, encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 1100, 700, 390, 360])
def test_no_label_lies_on_another(page: Page, report: Path, tmp_path: Path, width: int) -> None:
    for path in (report, *(_crowded(tmp_path, case) for case in range(12))):
        page.show(path, width=width)
        assert page.evaluate(OVERLAPS) == [], path


def test_names_of_layers_are_whole_where_there_is_room(page: Page, tmp_path: Path) -> None:
    name = "model.layers.31.self_attention.query_key_value.projection.weight"
    path = tmp_path / "names.html"
    run = made_run(tmp_path / "run", ("task-0",), {name: (4, 8)}, tasks=1)
    path.write_text(render(read_run(run)).html, encoding="utf-8")
    cut = "Array.from(document.querySelectorAll('.name .start'), each => each.scrollWidth > each.clientWidth)"
    page.show(path, width=1100)
    assert page.evaluate(cut) == [False, False, False]
    assert page.evaluate("document.querySelectorAll('.name')[0].textContent") == "whole file"
    assert page.evaluate("document.querySelectorAll('.name')[1].textContent") == name
    page.show(path, width=360)
    assert page.evaluate(cut) == [False, True, True]  # the middle is left out, and the end is not
    ends = "Array.from(document.querySelectorAll('.name .rest'), each => each.textContent)"
    assert page.evaluate(ends) == [name[-14:]] * 2


def test_the_confusion_and_hashes_use_their_card(page: Page, report: Path) -> None:
    page.show(report, width=1100)
    share = """(() => {
      const card = document.querySelector('.beside').getBoundingClientRect()
      const table = document.querySelector('.beside table').getBoundingClientRect()
      return (table.right - card.left) / card.width
    })()"""
    assert page.evaluate(share) > 0.95
    aligned = "Array.from(document.querySelectorAll('.tables td'), each => getComputedStyle(each).textAlign)"
    assert set(page.evaluate(aligned)) == {"left"}


def test_these_checks_can_fail(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><meta name=viewport content='width=device-width'><img src='https://example.org/x.png'>"
        "<script>console.error('said')</script><div style='width:900px'>wide</div>"
        "<svg role=img id=empty><title>empty</title><circle r=0 /><text>x</text><text>y</text></svg>"
    )
    page.show(bad, width=360)
    assert "https://example.org/x.png" in page.requests
    assert any("said" in text for text in page.complaints)
    assert page.evaluate("document.documentElement.scrollWidth") > 360
    (figure,) = page.evaluate(DRAWN)
    assert (figure["marks"], figure["seen"]) == (1, 0)
    assert page.evaluate(OVERLAPS) == ["empty: x on y"]
