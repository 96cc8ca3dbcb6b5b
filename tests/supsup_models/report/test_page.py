"""The page itself: well formed, complete, the same every time, and deaf to what names would like to be."""

import html
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank
from maskstore.bank.accounting import account
from supsup_models.cli.app import run_command
from supsup_models.inference.scenarios import Evaluation, Inference, TaskResult
from supsup_models.report import Compared, read_run, render, wording
from supsup_models.report.compare import Point
from supsup_models.report.judged import Judged
from supsup_models.report.labels import Labels, Spot
from supsup_models.report.markup import element, printable
from supsup_models.report.recovery import Recovered, RecoveredTask
from supsup_models.report.sections.confusion import _share
from supsup_models.runs.record import RunRecord
from tests.helpers import figures
from tests.helpers.runs import HOSTILE, hostile_run, made_run, record

DATA = re.compile("data:(text/csv|image/svg\\+xml);base64,([A-Za-z0-9+/=]+)")


class Reader(HTMLParser):
    """Elements and attributes of a page; AssertionError for one that is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, found in self.elements if (value := found.get(attribute)) is not None]


def check_page(text: str) -> Reader:
    """What every page keeps to."""
    read = Reader(text)
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    referred = [each for value in read.values("aria-labelledby") for each in value.split()]
    assert set(referred) <= set(ids)
    links = [link for link in read.values("href") if not DATA.fullmatch(link)]
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert len(read.values("download")) == len(set(read.values("download"))) == len(read.values("href")) - len(links)
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & {tag for tag, _ in read.elements}
    assert not any(name.startswith("on") or name in ("src", "style") for _, found in read.elements for name in found)
    drawings = [found for tag, found in read.elements if tag == "svg" and "role" in found]
    assert all(found["role"] == "img" and found["aria-labelledby"] for found in drawings)
    policy = [found["content"] for _, found in read.elements if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0] is not None
    assert policy[0].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert any(found.get("name") == "viewport" for _, found in read.elements)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    return read


def test_a_trained_run_has_its_figures_in_numbers_too(trained: Path, tmp_path: Path) -> None:
    assert run_command(["report", str(trained), "-o", str(tmp_path / "report.html")]) == 0
    read = check_page((tmp_path / "report.html").read_text())
    text = "".join(read.text)
    with MaskBank.open(trained / "masks.bank") as bank:
        found = account(bank)
    tasks = RunRecord.read(trained).tasks
    mean = sum(task["accuracy"] for task in tasks) / 3
    bits = found.per_parameter(8 * found.total_bytes)
    for figure in (wording.percent(mean), wording.bits(bits), wording.size(found.file_bytes)):
        assert figure in text
    for task in tasks:
        assert task["name"] in text
    for layer in found.layers:
        assert wording.count(layer.payload_bytes) in text
    drawn = [found["id"] for tag, found in read.elements if tag == "svg" and "role" in found]
    assert drawn == figures.pictures(without=("recovery",))
    assert read.values("download") == [f"{name}.{suffix}" for name in drawn for suffix in ("csv", "svg")]
    assert "No recovery was given to this page." in text


def test_the_same_run_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / trained.name
    shutil.copytree(trained, elsewhere)
    for run, out in ((trained, "a"), (trained, "b"), (elsewhere, "c")):
        assert run_command(["report", str(run), "-o", str(tmp_path / out)]) == 0
    first = (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == first
    assert (tmp_path / "c").read_bytes() == first
    assert str(tmp_path).encode() not in first  # a page that is passed on says nothing about this machine


def test_hostile_names_are_text(tmp_path: Path) -> None:
    facts = read_run(hostile_run(tmp_path))
    task = RecoveredTask(0, False, {HOSTILE[0]: (3, 2, 1), HOSTILE[1]: (3, 2, 0)})
    recovered = Recovered(HOSTILE[0], HOSTILE[1], (task,), tuple(task.by_layer), 0, 0.5, 0.6)
    compared = Compared((Point(HOSTILE[0], 0.5, 0.9, HOSTILE[1]),))
    read = check_page(render(facts, None, recovered, compared).html)
    text = "".join(read.text)
    for name in HOSTILE:
        assert printable(name) in text
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_markup_escapes_all_but_markup() -> None:
    inner = element("b", "<&>")
    assert element("p", inner, '"', title="\"'<", class_="x").text == (
        '<p title="&quot;&#x27;&lt;" class="x"><b>&lt;&amp;&gt;</b>&quot;</p>\n'
    )
    assert html.unescape(element("b", "a\ud800b\x1b").text) == "<b>a\ufffdb\ufffd</b>"


def test_a_run_before_its_first_task(tmp_path: Path) -> None:
    record().write(tmp_path)
    page = render(read_run(tmp_path))
    assert page.drawn == ()
    assert page.missing == tuple(figures.names())
    text = "".join(check_page(page.html).text)
    assert "unfinished" in text
    assert "0 of 10 tasks" in text
    assert "permuted-mnist" in text


def test_a_run_half_way(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", ("task-0", "task-1"), {"fc": (4, 8)}, tasks=3)
    facts = read_run(run)
    page = render(facts)
    assert not facts.finished
    assert page.drawn == ("accuracy", "storage", "growth", "pareto", "overlap", "density")
    assert "2 of 3 tasks" in "".join(check_page(page.html).text)


def test_many_tasks_and_many_layers(tmp_path: Path) -> None:
    layers = {f"block{number}.conv.weight": (4, 2 + number % 3, 3, 3) for number in range(70)}
    run = made_run(tmp_path / "run", tuple(f"t{number}" for number in range(120)), layers, tasks=120)
    text = "".join(check_page(render(read_run(run)).html).text)
    assert "55 other layers" in text
    assert "first 60 of 70 layers" in text


@pytest.mark.parametrize(("tasks", "cells"), [(7, 7), (50, 50), (120, 40), (2500, 50)])
def test_many_tasks_share_the_cells_of_a_confusion(tasks: int, cells: int, tmp_path: Path) -> None:
    """Every task has 4 images, of which one is taken for the task before."""
    run = made_run(tmp_path / "run", ("task-0",), {"fc": (4, 8)})
    names = tuple(f"task-{number}" for number in range(tasks))
    confusion = 3 * np.eye(tasks, dtype=np.int64) + np.roll(np.eye(tasks, dtype=np.int64), -1, axis=1)
    each = tuple(TaskResult(name, 0.7, 0.75, 4) for name in names)
    steps = (
        Evaluation("GNu", 2, 0.9, 0.9, 0.1, each[:2], 8),
        Evaluation("GNu", tasks, 0.7, 0.75, 0.1, each, 4 * tasks, (0.6, 0.8)),
    )
    judged = Judged(Inference(), steps, names, confusion)
    read = check_page(render(read_run(run), judged).html)
    found = [found for tag, found in read.elements if tag == "rect" and found.get("class") == "cell"]
    assert {each["width"] for each in found} == {f"{100 / cells:.3f}%"}
    assert len(found) == 2 * cells
    text = "".join(read.text)
    if tasks == 120:
        assert f"task-0 to task-2 → task-0 to task-2: {wording.percent(11 / 12, 1)}" in text
        assert "3 tasks to a cell" in text
    if tasks == 7:
        assert f"task-3 → task-2: {wording.percent(0.25, 1)}" in text


@pytest.mark.parametrize("accuracy", ["<b>", None, 2.0, -1, True, 10**400], ids=range(6))
def test_figures_that_are_none_are_left_out(accuracy: object, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", ("task-0", "task-1"), {"fc": (4, 8)}, tasks=2)
    with MaskBank.open(run / "masks.bank", "a") as bank:
        bank.put("task-2", bank["task-1"], meta={"accuracy": accuracy, "loss": accuracy})
    facts = read_run(run)
    assert [task.accuracy is None for task in facts.tasks] == [False, False, True]
    check_page(render(facts).html)


def test_a_bank_of_another_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(tmp_path / "run", ("task-0",), {"fc": (4, 8)})
    record(seed=7).write(run)
    assert run_command(["report", str(run), "-o", str(tmp_path / "out.html")]) == 1
    error = capsys.readouterr().err
    assert "expected the masks of model 'lenet-300-100', seed 7, found those of" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.html").exists()


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(theme: int) -> None:
    """4.5 for text, 3 for what is drawn: Web Content Accessibility Guidelines 2.2, 1.4.3 and 1.4.11."""
    style = (Path(render.__code__.co_filename).parent / "style.css").read_text()
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
    assert len(colours) == 14
    for ground in ("page", "card"):
        for text in ("ink", "muted", "accent", "side", "inferred"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for part in ("payload", "side", "index", "slack", "inferred", "wrong"):
            assert _contrast(colours[part], colours[ground]) >= 3, (part, ground)
    assert _contrast(colours["on-accent"], colours["accent"]) >= 4.5


def test_the_static_entropy_is_not_called_a_bound(trained: Path) -> None:
    """Files of the highest level lie below it."""
    text = "".join(check_page(render(read_run(trained)).html).text)
    assert "entropy bound" not in text.lower()
    assert "It is a mark, not a bound." in text


@pytest.mark.parametrize(
    ("share", "cells", "said"),
    [
        (1.0, 3, "100"),
        (0.9999, 3, "99.9"),
        (0.0003, 3, "0.1"),
        (0.25, 3, "25"),
        (0.9999, 10, "99"),
        (0.004, 10, "<1"),
        (1.0, 10, "100"),
        (0.29, 10, "29"),
    ],
)
def test_shares_are_never_rounded_to_all_or_nothing(share: float, cells: int, said: str) -> None:
    assert _share(share, cells) == said


def test_labels_go_where_nothing_else_is() -> None:
    spots = [Spot(50, 100, 5), Spot(50, 100, 5), Spot(52, 100, 5), Spot(0, 5, 5), Spot(100, 195, 5)]
    labels = Labels(200, spots)
    found = [labels.place(spot, "a label") for spot in spots]
    assert None not in found
    assert len({each.text for each in found if each}) == len(spots)
    crowd = [labels.place(spots[0], "another label") for _ in range(20)]
    assert crowd[-1] is None  # where no room is left, the legend has to do


def test_the_page_has_hashes_on_lines_of_their_own(tmp_path: Path) -> None:
    digest = "ab" * 32
    run = record()
    replace(run, stream={**run.stream, "sha256": {"train": digest, "test": digest}}).write(tmp_path)
    text = render(read_run(tmp_path)).html
    assert text.count(f'<code class="hash">{digest}</code>') == 2
