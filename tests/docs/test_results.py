"""docs/results.md is what the committed results give, and every row says how it was made."""

import json
import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch")
from benchmarks.results import PAGE, RESULTS, page
from benchmarks.storage.plots import draw_panels
from benchmarks.storage.results import Row
from benchmarks.storage.suites import FULL

FILES = sorted(RESULTS.glob("*.json"))


def test_the_page_is_what_the_results_give():
    assert PAGE.read_text() == page(), "run `python -m benchmarks.results`"


def test_a_changed_figure_changes_the_page(tmp_path: Path):
    for path in FILES:
        (tmp_path / path.name).write_text(path.read_text())
    assert page(tmp_path) == page()
    rows = json.loads(FILES[0].read_text())
    next(iter(rows.values()))["bytes"] += 1_000_000
    (tmp_path / FILES[0].name).write_text(json.dumps(rows))
    assert page(tmp_path) != page()


def test_rows_on_a_trained_network_have_a_table_and_a_plot(tmp_path: Path):
    rows = {
        name: Row(name, group, {"all": size}, 8, 1000, accuracy=0.8, notes=notes).to_json()
        | {"command": "c", "config": {"steps": 60, "batch": 16, "seed": 0}, "made": {"date": "d", "machine": "m"}}
        for name, group, size, notes in (
            ("full", "baseline", 80000, {}),
            ("drop-0.01", "ours", 1600, {"found_alone": 0.95, "found_together": 1.0}),
        )
    }
    for row in rows.values():
        row["made"]["versions"] = {}
    (tmp_path / "backbone.json").write_text(json.dumps(rows))
    lines = page(tmp_path).splitlines()
    assert "| drop-0.01 | 80.0 | 200 | 1.600 | 95.0 / 100.0 | `c` |" in lines
    assert "| full | 80.0 | 10 000 | 80.000 | – / – | `c` |" in lines
    draw_panels({"tasks": rows}, tmp_path / "plot.svg")
    assert "drop-0.01" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rows_name_a_command_that_exists(path: Path):
    for name, row in json.loads(path.read_text()).items():
        if path.stem == "backbone":
            assert row["command"] == "pytest benchmarks/ -k backbone --full"
        else:
            suite = FULL[path.stem]
            assert shlex.split(row["command"]) == ["python", "-m", "benchmarks.storage", suite.name, name]
            assert name in suite.methods
        assert row["bytes"] == sum(row["parts"].values())
        assert {"date", "machine", "versions"} <= set(row["made"])
        assert row["config"]["seed"] == 0


def test_there_are_results():
    assert {"permuted-mnist", "permuted-digits", "memories", "resnet-50"} <= {path.stem for path in FILES}
