"""What a report is made from: axes, other methods' results, recoveries, judged images."""

import json
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supsup_models.cli.app import run_command
from supsup_models.errors import ReportError
from supsup_models.inference.scenarios import Evaluation, Inference, TaskResult, evaluate
from supsup_models.report import Judged, plot, read_comparisons, read_recovery, read_run, render, wording
from supsup_models.report.compare import Compared, Point
from supsup_models.report.judging import _needed, judge_run
from supsup_models.report.sections.accuracy import accuracy_section
from supsup_models.runs.load import load_run
from tests.helpers.runs import made_run

FRACTIONS = st.floats(0, 1)


@given(st.lists(FRACTIONS, min_size=1, max_size=20))
def test_fractions_lie_on_their_axis(values: list[float]) -> None:
    axis = plot.fraction_axis(values)
    assert all(0 <= axis.place(value) <= 100 for value in values)
    assert 0 <= axis.low < axis.high <= 1
    _check_ticks(axis)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_rates_lie_on_their_axis(values: list[float]) -> None:
    axis = plot.log_axis(values)
    assert all(0 < axis.place(value) < 100 for value in values)
    _check_ticks(axis)


@given(st.integers(0, 10**9))
def test_counts_lie_on_their_axis(most: int) -> None:
    axis = plot.log1p_axis(most, wording.compact)
    assert axis.place(0) == 0
    assert 0 <= axis.place(most) <= 100
    _check_ticks(axis)


@given(st.integers(1, 5000))
def test_numbers_of_tasks_lie_on_their_axis(last: int) -> None:
    axis = plot.count_axis(last)
    assert 0 < axis.place(1) <= axis.place(last) < 100
    assert all(value == int(value) and 1 <= value <= last for value, _ in axis.ticks)
    _check_ticks(axis)


def _check_ticks(axis: plot.Axis) -> None:
    values = [value for value, _ in axis.ticks]
    labels = [label for _, label in axis.ticks]
    assert 1 <= len(labels) == len(set(labels)) <= 12
    assert values == sorted(values)
    assert all(isfinite(axis.place(value)) and -1e-6 <= axis.place(value) <= 100 + 1e-6 for value in values)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (wording.count(1234567), "1 234 567"),
        (wording.percent(0.93694), "93.69 %"),
        (wording.size(999), "999 B"),
        (wording.size(17920), "17.9 kB"),
        (wording.size(135168), "135 kB"),
        (wording.compact(1e6), "1 M"),
        (wording.bits(0.48432), "0.484"),
        (wording.bits(32), "32.0"),
    ],
)
def test_figures_are_said(said: str, expected: str) -> None:
    assert said == expected.replace(" ", "\u202f")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "run", ("task-0", "task-1"), {"fc": (10, 80)}, tasks=2)


def _written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_results_become_points(run: Path, tmp_path: Path) -> None:
    rows = [
        {"method": "a", "accuracy": 0.9, "bits_per_parameter": 0.25, "stream": "permuted-mnist"},
        {"method": "b", "GG": 0.8, "bytes": 1000, "tasks": 5},
        {"method": "c", "GG": 0.8, "bits_per_parameter": 1, "stream": "split-mnist"},
        {"method": "d", "GG": None, "bits_per_parameter": 1},
        {"method": "e", "GG": 0.5, "bits_per_parameter": 0},
        {"method": 3, "GG": 0.5, "bits_per_parameter": 1},
    ]
    one, two = (_written(tmp_path / f"{key}.json", {key: rows}) for key in ("rows", "table"))
    found = read_comparisons([one, two], read_run(run))
    assert [(point.method, point.bits_per_parameter, point.accuracy, point.source) for point in found.points] == [
        ("a", 0.25, 0.9, "rows"),
        ("b", 2.0, 0.8, "rows"),  # 8 * 1000 bits over 5 tasks of 800 parameters
        ("a", 0.25, 0.9, "table"),
        ("b", 2.0, 0.8, "table"),
    ]
    assert (found.other_streams, found.incomplete) == (2, 6)


def test_the_storage_benchmarks_files_become_points(run: Path, tmp_path: Path) -> None:
    stream = read_run(run).record.config.stream
    row = {"title": "packed", "accuracy": 0.9, "bits_per_parameter": 1.0, "config": {"stream": stream}}
    other = {**row, "config": {"stream": "another"}}
    (tmp_path / "results.json").write_text(json.dumps({"a": row, "b": other, "c": {"title": "nothing known"}}))
    found = read_comparisons([tmp_path / "results.json"], read_run(run))
    assert found == Compared((Point("packed", 1.0, 0.9, "results"),), other_streams=1, incomplete=1)


def test_a_run_becomes_a_point(run: Path, tmp_path: Path) -> None:
    other = made_run(tmp_path / "other", ("a", "b", "c"), {"fc": (10, 80)}, tasks=3)
    (point,) = read_comparisons([other], read_run(run)).points
    facts = read_run(other)
    assert point.source == "other"
    assert (point.accuracy, point.bits_per_parameter) == (facts.accuracy, facts.bits_per_parameter)


def test_a_run_of_another_stream_is_no_point(run: Path, tmp_path: Path) -> None:
    other = made_run(tmp_path / "other", ("a",), {"fc": (10, 80)}, stream="split-mnist")
    with pytest.raises(ReportError, match="expected a run on stream permuted-mnist, found one on split-mnist"):
        read_comparisons([other], read_run(run))


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("no json", "found something else"),
        ("[" * 100_000, "found something else"),
        ([], r"found \[\]"),
        ({}, 'expected results with a list of "rows"'),
        ({"rows": [1]}, 'expected results with a list of "rows"'),
        ({"rows": []}, "found 0 rows of other streams and 0 incomplete"),
        ({"rows": [{"method": "a", "accuracy": 93.7, "bits_per_parameter": 1}]}, "1 incomplete"),
    ],
    ids=range(7),
)
def test_files_that_are_no_results(content: Any, phrase: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=phrase) as raised:
        read_comparisons([_written(tmp_path / "x.json", content)], read_run(run))
    assert "\n" not in str(raised.value)


GOOD: dict[str, Any] = {
    "recipe": "mean-field",
    "memory": "a memory",
    "overlap_argmax": 1,
    "accuracy": 0.9,
    "true_accuracy": 0.9,
    "per_task": [{"task": 0, "exact": False, "hamming": {"fc": 2}, "hamming_by_step": {"fc": [9, 4]}}],
}


def test_a_recovery_is_read_with_its_answer(tmp_path: Path) -> None:
    found = read_recovery(_written(tmp_path / "x.json", GOOD))
    assert found.tasks[0].by_layer == {"fc": (9, 4, 2)}
    assert (found.batches, found.exact, found.layers) == (2, 0, ("fc",))


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"per_task": []}, "no task"),
        ({"per_task": [{}]}, "found something else .no 'hamming' in it"),
        (
            {"per_task": [{**GOOD["per_task"][0], "hamming_by_step": {"fc": []}}]},
            r"hamming_by_step\.fc: expected .*, found \[\]",
        ),
        ({"per_task": [{**GOOD["per_task"][0], "hamming_by_step": {"fc": [-1]}}]}, "counts of wrong bits"),
        ({"per_task": [{**GOOD["per_task"][0], "hamming_by_step": {"fc": ["<b>"]}}]}, "fc: expected int, found '<b>'"),
        ({"per_task": [GOOD["per_task"][0], {**GOOD["per_task"][0], "hamming_by_step": {}}]}, "expected"),
        ({"overlap_argmax": None}, "found"),
        ({"overlap_argmax": float("inf")}, "found"),
        ({"per_task": [{**GOOD["per_task"][0], "task": float("inf")}]}, "found"),
    ],
    ids=range(9),
)
def test_files_that_are_no_recovery(changes: dict[str, Any], phrase: str, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"expected what `supsup recover --json` writes.*" + phrase):
        read_recovery(_written(tmp_path / "x.json", {**GOOD, **changes}))


def test_what_recover_prints_is_what_a_report_reads(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["recover", str(trained), "--json"]) == 0
    printed = capsys.readouterr().out
    found = read_recovery(_written(tmp_path / "recovery.json", printed))
    content = json.loads(printed)
    assert found.layers == ("fc1", "fc2", "fc3")
    for task, each in zip(found.tasks, content["per_task"], strict=True):
        assert {layer: steps[-1] for layer, steps in task.by_layer.items()} == each["hamming"]
        assert len(task.by_layer["fc1"]) == each["evaluations"] + 1
    assert found.exact == content["exact"]
    out = tmp_path / "page.html"
    words = ["report", str(trained), "--limit", "0", "--recovery", str(tmp_path / "recovery.json"), "-o", str(out)]
    assert run_command(words) == 0
    assert "recovery-2-title" in out.read_text()


@pytest.mark.parametrize("images", [1, 4])
def test_judging_is_what_eval_says(images: int, trained: Path) -> None:
    inference = Inference("exhaustive", "H", images)
    found = judge_run(trained, inference, limit=30)
    assert isinstance(found, Judged)
    loaded = load_run(trained, "cpu")
    stream = loaded.stream(None)
    seed = loaded.record.config.seed
    expected = evaluate(loaded.model, loaded.matrix, list(stream), "GNu", inference, limit=30, seed=seed)
    assert found.last.accuracy == expected.accuracy
    assert found.last.interval == expected.interval
    given = evaluate(loaded.model, loaded.matrix, list(stream), "GG", inference, limit=30, seed=seed)
    assert found.last.given_accuracy == given.accuracy
    assert [step.tasks for step in found.steps] == [2, 3]
    assert found.confusion.sum(axis=1).tolist() == [each.images for each in expected.per_task]
    share = np.diagonal(found.confusion) / found.confusion.sum(axis=1)
    assert share.tolist() == pytest.approx([each.task_accuracy for each in expected.per_task])


def test_what_inference_costs_is_told_by_the_same_images(trained: Path) -> None:
    """Tasks given are right for 97 % of all images, for 95 % of the sample: inference costs 0.1 points, not 2.1."""
    each = TaskResult("task-0", 0.949, 0.999, 1000, 0.95)
    last = Evaluation("GNu", 3, 0.949, 0.999, 0.1, (each,), 3000, (0.94, 0.96), 0.95)
    judged = Judged(Inference("one-shot", "G"), (last,), ("task-0",), np.array([[3000]]))
    text = accuracy_section(read_run(trained), judged).render().text
    assert "the same images reach 95.00\u202f%: inference costs 0.10 points" in text
    same = replace(last, accuracy=0.95)
    text = accuracy_section(read_run(trained), replace(judged, steps=(same,))).render().text
    assert "inference costs nothing" in text


def test_where_all_images_are_judged_nothing_is_called_a_sample(trained: Path) -> None:
    found = judge_run(trained, Inference(), limit=3 * 360)
    assert isinstance(found, Judged)
    assert [step.interval for step in found.steps] == [None, None]
    assert found.last.given_accuracy == pytest.approx(read_run(trained).accuracy)
    text = render(read_run(trained), found).html
    assert "sampled" not in text
    assert "a sample of" not in text
    assert "None" not in text
    assert found.inference.objective == load_run(trained, "cpu").model.objective == "G"


@pytest.mark.parametrize(("tasks", "images", "limit", "all_of_them"), [(3, 1, 1079, False), (2, 4, 180, True)])
def test_a_limit_that_leaves_nothing_out(tasks: int, images: int, limit: int, all_of_them: bool, trained: Path) -> None:
    known = list(load_run(trained, "cpu").stream())[:tasks]
    assert (_needed(known, Inference(images=images), limit) is None) == all_of_them
