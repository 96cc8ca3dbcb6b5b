"""What can be taken from a report: CSV with the numbers as they are, and SVG that stands by itself."""

import base64
import csv
import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from maskstore import MaskBank
from supsup_models.cli.app import run_command
from supsup_models.report import read_comparisons, read_run, render
from supsup_models.report.facts import SeedFacts
from supsup_models.report.judged import Judged, Sureness
from supsup_models.report.sections.sureness import sureness_section
from tests.helpers.runs import hostile_run, made_run
from tests.supsup_models.report.test_page import Reader, check_page

SVG = "{http://www.w3.org/2000/svg}"


def taken(page: str) -> dict[str, str]:
    """The files of a page, by name."""
    found = {}
    for tag, attributes in Reader(page).elements:
        if tag == "a" and (name := attributes.get("download")):
            found[name] = base64.b64decode(str(attributes["href"]).partition(",")[2]).decode()
    return found


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def files(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert run_command(["report", str(trained), "-o", str(out)]) == 0
    return taken(out.read_text())


def test_numbers_are_those_of_the_run_and_not_rounded(trained: Path, files: dict[str, str]) -> None:
    facts = read_run(trained)
    alone = [row for row in rows(files["accuracy.csv"]) if row["what"] == "one task (GG)"]
    assert [float(row["accuracy"]) for row in alone] == facts.accuracies
    assert [row["name"] for row in alone] == [task.name for task in facts.tasks]
    curve = facts.tasks[0].curve
    assert curve is not None
    losses = [
        float(row["loss (nats)"]) for row in rows(files["training-loss.csv"]) if row["task"] == facts.tasks[0].name
    ]
    assert losses == list(curve.losses)
    (this, *_) = rows(files["pareto.csv"])
    assert float(this["bits per parameter and task"]) == facts.bits_per_parameter
    assert facts.account is not None
    assert int(rows(files["growth.csv"])[-1]["bank bytes"]) == facts.account.total_bytes
    assert sum(int(row["images"]) for row in rows(files["confusion.csv"])) == len(rows(files["sureness-margins.csv"]))


def test_overlaps_are_those_of_the_masks(trained: Path, files: dict[str, str]) -> None:
    found = rows(files["overlap.csv"])
    assert len(found) == 3
    with MaskBank.open(trained / "masks.bank") as bank:
        for row in found:
            one, other = bank[row["mask"]], bank[row["other mask"]]
            assert float(row["Jaccard index"]) == (one & other).ones / (one | other).ones


def test_chance_is_what_masks_drawn_by_chance_have(tmp_path: Path) -> None:
    facts = read_run(made_run(tmp_path / "run", tuple("abcdefgh"), {"a": (80, 90), "b": (20, 30)}))
    assert facts.overlap is not None
    pairs = facts.overlap.shares[np.triu_indices(8, 1)]
    assert abs(pairs.mean() - facts.overlap.by_chance) < 0.01
    assert np.diag(facts.overlap.shares).tolist() == [1.0] * 8


def test_each_figure_is_an_svg_that_needs_nothing(files: dict[str, str]) -> None:
    drawings = {name: text for name, text in files.items() if name.endswith(".svg")}
    assert len(drawings) == 11
    for text in drawings.values():
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        assert sum(len(root.findall(f".//{SVG}{tag}")) for tag in ("rect", "circle", "polyline")) > 3
        assert "var(" not in text
        assert "url(" not in text
        assert "href" not in text


def test_hostile_names_are_text_in_the_files_too(tmp_path: Path) -> None:
    files = taken(render(read_run(hostile_run(tmp_path))).html)
    for name, text in files.items():
        if name.endswith(".svg"):
            tags = {element.tag.partition("}")[2] for element in ElementTree.fromstring(text).iter()}
            assert not tags & {"script", "img", "h1"}, name
        else:
            assert "\u202e" not in text
            assert "\x1b" not in text


def test_another_run_is_drawn_over_this_one(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train = [
        "train",
        "--stream",
        "permuted-digits",
        "--tasks",
        "2",
        "--outputs",
        "40",
        "--batches",
        "30",
        "--seed",
        "8",
    ]
    assert run_command([*train, "--out", str(other)]) == 0
    facts = read_run(trained)
    page = render(facts, compared=read_comparisons([other], facts)).html
    check_page(page)
    drawn = [row for row in rows(taken(page)["accuracy.csv"]) if row["name"] == "other"]
    means = np.cumsum(read_run(other).accuracies) / [1, 2]
    assert [float(row["accuracy"]) for row in drawn] == means.tolist()
    assert page.count('class="curve run-1"') == 1


def test_seeds_have_error_bars(trained: Path) -> None:
    facts = read_run(trained)
    seeds = tuple(SeedFacts(seed, 3, 0.9, 0.2, (0.9 - seed / 100, 0.8, 0.7)) for seed in range(3))
    page = render(replace(facts, seeds=seeds)).html
    check_page(page)
    assert page.count('class="spread seeds"') == 3
    found = [row for row in rows(taken(page)["accuracy.csv"]) if row["what"] == "standard deviation over seeds"]
    assert [round(float(row["accuracy"]), 6) for row in found] == [0.01, 0.005, round(0.01 / 3, 6)]
    assert 'class="spread seeds"' not in render(facts).html


def test_calibration_says_how_far_words_are_from_deeds(trained: Path) -> None:
    half = np.arange(200) % 2 == 0
    sure = Sureness(np.ones(200), half, np.full(200, 0.95), half)  # says 95 %, and is right in 50 %
    judged = Judged.__new__(Judged)
    object.__setattr__(judged, "sureness", sure)
    text = sureness_section(judged).render().text
    assert "45.0 points" in text
    assert "For 100 of them" in text
    assert sureness_section(None).missing is not None
