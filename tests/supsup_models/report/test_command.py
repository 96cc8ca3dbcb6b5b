"""`supsup report`: its options, what it refuses, and what it says where something is missing."""

import html
import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskstore import MaskBank, compact
from maskstore.priors import SeededScores
from supsup_models.cli.app import run_command
from supsup_models.errors import SupSupError
from supsup_models.report import make_report, read_run, render
from supsup_models.report.sections.setup import reproducing
from supsup_models.runs import recover_run
from supsup_models.runs.record import RunConfig, RunRecord, bank_path
from tests.helpers import figures
from tests.helpers.commands import error_of, in_fresh_process
from tests.helpers.runs import made_run, record


def test_json_says_what_was_drawn(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert run_command(["report", str(trained), "-o", str(out), "--limit", "60", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    facts = read_run(trained)
    assert found == {
        "report": str(out),
        "run": trained.name,
        "finished": True,
        "tasks": 3,
        "accuracy": facts.accuracy,
        "bits_per_parameter": facts.bits_per_parameter,
        "seeds": [],
        "scenario": "GNu",
        "inferred_accuracy": found["inferred_accuracy"],
        "given_accuracy": found["given_accuracy"],
        "task_accuracy": found["task_accuracy"],
        "figures": figures.names(without=("recovery",)),
        "missing": ["recovery"],
        "no_images": None,
    }
    assert found["inferred_accuracy"] <= found["task_accuracy"] <= 1
    assert "60 sampled test images" in out.read_text()


def test_the_page_lies_in_the_run_unless_said_otherwise(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert run_command(["report", str(run), "--limit", "0"]) == 0
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert run_command(["train", *shlex.split(_train_words(run))]) == 0  # and is in nobody's way there


def _train_words(run: Path) -> str:
    words = reproducing(read_run(run))[0]
    return shlex.join([*words[2:-1], str(run)])


def test_without_identity(trained_without_identity: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert run_command(["report", str(trained_without_identity), "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["scenario"], found["accuracy"], found["finished"]) == ("NNs", None, True)
    assert found["inferred_accuracy"] > 0.8
    assert "no task identity (NNs)" in out.read_text()


def test_a_compacted_run_is_made_again_with_its_compact(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = [shlex.join(words) for words in reproducing(read_run(run))]
    compact(bank_path(run), level="max")
    after = [shlex.join(words) for words in reproducing(read_run(run))]
    assert [words for words in after if words not in before] == ["maskstore compact run/masks.bank --level max"]
    assert after.index("maskstore compact run/masks.bank --level max") == 2  # before its size is looked at
    assert not any("compact" in words for words in before)


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"model": "resnet-18-20", "mask": "edge-popup"}, "threshold masks on signed-constant weights"),
        ({"weights": "kaiming"}, "threshold masks on signed-constant weights"),
        ({"task_identity": False}, "trained without task identity"),
        ({}, None),
    ],
)
def test_recover_is_offered_to_runs_that_it_takes(change: dict[str, Any], phrase: str | None, tmp_path: Path) -> None:
    made = record(**change)
    if {"mask", "weights"} & change.keys():
        made = replace(made, network=replace(made.network, image_shape=(1, 28, 28)))
    made.write(tmp_path)
    text = html.unescape(render(read_run(tmp_path)).html)
    assert ("supsup recover RUN" in text) == (phrase is None)
    assert phrase is None or phrase in text


def test_eval_takes_the_scenario_from_the_run(
    trained: Path, trained_without_identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, scenario in ((trained, "GNu"), (trained_without_identity, "NNs")):
        assert run_command(["eval", str(run), "--limit", "30", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["scenario"] == scenario
        assert run_command(["eval", str(run), "--limit", "30"]) == 0
        assert f"{scenario}, 3 tasks: accuracy" in capsys.readouterr().out


def test_recovery_needs_a_mask_for_each_task(
    trained_without_identity: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["recover", str(trained_without_identity)]) == 1
    assert "expected a run whose masks are its tasks', found one without task identity" in error_of(capsys)


def test_recovery_pairs_masks_and_tasks_by_name(trained: Path, tmp_path: Path) -> None:
    """A bank whose masks were put in another order, and which lacks one."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    bank_path(run).unlink()
    with MaskBank.open(bank_path(trained)) as old, MaskBank.create(bank_path(run), old.spec, meta=old.meta) as new:
        for name in ("task-2", "task-1"):
            new.put(name, old[name], prior=SeededScores(seed=5, task=int(name[-1])))
    found = recover_run(run)
    accuracies = [task["accuracy"] for task in read_run_tasks(trained)]
    assert found["true_accuracy"] == pytest.approx(sum(accuracies[1:]) / 2)


def read_run_tasks(run: Path) -> Sequence[Mapping[str, Any]]:
    return RunRecord.read(run).tasks


def _over_mnist(trained: Path, folder: Path) -> Path:
    """The run with a record that says MNIST, whose images it can then not have."""
    shutil.copytree(trained, folder)
    run = RunRecord.read(folder)
    stream = {**run.stream, "data_set": "mnist"}
    replace(run, config=replace(run.config, stream="permuted-mnist"), stream=stream).write(folder)
    return folder


def test_without_the_data_set_the_page_says_so(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MASKSTORE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run, out = _over_mnist(trained, tmp_path / "run"), tmp_path / "page.html"
    assert run_command(["report", str(run), "-o", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["no_images"].startswith("MNIST not found")
    assert "no figures of inference: MNIST not found" in captured.err
    assert found["missing"] == ["confusion", "sureness", "recovery"]
    text = out.read_text()
    assert "The test images of mnist were not at hand" in text
    assert str(tmp_path) not in text


def test_a_named_folder_must_hold_the_data_set(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = _over_mnist(trained, tmp_path / "run"), tmp_path / "page.html"
    assert run_command(["report", str(run), "-o", str(out), "--data", str(tmp_path)]) == 1
    assert "MNIST not found" in error_of(capsys)
    assert not out.exists()


def test_an_earlier_report_is_replaced_and_nothing_else(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    words = ["report", str(trained), "-o", str(out), "--limit", "0"]
    assert run_command(words) == 0
    assert run_command(words) == 0
    out.write_text("my notes")
    capsys.readouterr()
    assert run_command(words) == 1
    assert "expected no file or an earlier report, found another file (--overwrite replaces it)" in error_of(capsys)
    assert out.read_text() == "my notes"
    assert run_command([*words, "--overwrite"]) == 0
    assert out.read_text().startswith("<!doctype html>")


def test_a_runs_own_files_are_never_replaced(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bank_path(trained)
    before = path.read_bytes()
    assert run_command(["report", str(trained), "-o", str(path), "--overwrite"]) == 1
    assert "expected a place outside the run's own files" in error_of(capsys)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("place", "phrase"), [("nowhere/page.html", "found none"), (".", "found a folder")])
def test_places_that_cannot_be_written(
    place: str, phrase: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["report", str(trained), "-o", str(tmp_path / place)]) == 1
    assert phrase in error_of(capsys)


def test_a_failure_leaves_the_earlier_page(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.html"
    make_report(trained, out)
    before = out.read_bytes()
    page = make_report(trained, out).page
    monkeypatch.setattr("supsup_models.report.write.render", lambda *_: replace(page, html="cut short \ud800"))
    with pytest.raises(UnicodeEncodeError):
        make_report(trained, out)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("words", "code", "phrase"),
    [
        (["--limit", "2"], 2, "a limit of at least 3"),
        (["--infer", "two-shot"], 2, "did you mean 'one-shot'"),
        (["--objective", "F"], 2, "objective: expected one of"),
        (["--limit", "-1"], 2, "--limit"),
        (["--compare", "nowhere.json"], 1, "found no such file"),
        (["--recovery", "nowhere.json"], 1, "found no such file"),
    ],
)
def test_wrong_words(
    words: list[str], code: int, phrase: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["report", str(trained), "-o", str(tmp_path / "page.html"), *words]) == code
    assert phrase in error_of(capsys)


def test_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, found in ((tmp_path, "no run.json in it"), (tmp_path / "nowhere", "no such folder")):
        assert run_command(["report", str(folder)]) == 1
        expected = f"supsup: {folder}: expected the folder of a run made by `supsup train`, found {found}\n"
        assert error_of(capsys) == expected


@pytest.mark.parametrize(
    "config",
    [
        RunConfig("permuted-mnist", 7, "fc-1024-1024", 500, 12, "paper", 2**64 - 1),
        RunConfig("split-digits", 5, "lenet-300-100", 10, 3, "dense", 1, task_identity=False),
        RunConfig("permuted-digits", 5, "lenet-300-100", 40, 3, "default", 1, sparsity="er", target_bits=0.1),
    ],
)
def test_the_commands_on_the_page_make_the_run_again(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set = config.stream.partition("-")[2]
    folder = tmp_path / "a run; rm -rf"
    folder.mkdir()
    replace(record(), config=config, stream={"data_set": data_set}).write(folder)
    asked: list[Any] = []

    def noted(given: RunConfig, out: Path, **options: Any) -> None:
        asked.append((given, out, options["data"]))
        raise SupSupError("noted")

    monkeypatch.setattr("supsup_models.runs.train_run", noted)
    monkeypatch.chdir(tmp_path)
    first, *others = (shlex.join(words) for words in reproducing(read_run(folder)))
    assert run_command(shlex.split(first)[1:]) == 1
    assert asked == [(config, Path(folder.name), None if data_set == "digits" else Path("DIR"))]
    shown = html.unescape(
        (re.search("<pre.*?><code>(.*?)</code>", render(read_run(folder)).html, re.DOTALL) or [""])[1]
    )
    assert shlex.split(shown.replace("\\\n", "").partition("\nsupsup eval")[0]) == shlex.split(first)
    assert [line.split()[:2] for line in others] == [["supsup", "eval"], ["maskstore", "stats"], ["supsup", "report"]]


@pytest.mark.slow
def test_a_report_without_images_needs_no_torch(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", ("task-0",), {"fc": (4, 8)})
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from supsup_models.cli.app import run_command\n"
        f"sys.exit(run_command(['report', {str(run)!r}, *sys.argv[1:]]))\n"
    )
    for words, code in ((["--limit", "0"], 0), ([], 1)):  # the second shows that torch was out of reach
        done = in_fresh_process(script, *words)
        assert done.returncode == code, done.stderr
    assert "supsup_models: expected torch, found it not installed" in done.stderr
