"""Runs of strangers: each field of a run's files is forged, and each use gives the true answer or a named error."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskstore import MaskBank, MaskStoreError, SeededScores
from supsup_models import Inference, SupSupError, evaluate_run, infer_images, run_config, train_run
from supsup_models.errors import RunError
from supsup_models.report import make_report
from tests.helpers.messages import check_message

GONE = object()
VALUES: tuple[Any, ...] = (GONE, None, "x", True, -1, 1.5, 1e30, 2**70, [], {"a": 1})
VIEWS = {"image_shape": [1, 8, 8], "count": 8}
ADDED: tuple[tuple[str, Any], ...] = (
    ("views", VIEWS),
    ("views", {**VIEWS, "count": 3}),
    ("views", {**VIEWS, "count": 2**70}),
    ("views", {**VIEWS, "image_shape": [2**40, 2**40, 1]}),
    ("own", {"network": "0" * 64}),
    ("own", {"recipe": {"name": "x"}}),
    ("own", {"data": {"task-0": "x"}}),
    ("own", {"answers": [1.0]}),
    ("more", 1),
)
"""Keys that the record of this run has not, with values that other records have."""

MEANT = {
    "run.json": {("config", "tasks"), ("pixels", "scale"), ("pixels", "shift"), ("pixels",)},
    "calibration.json": {("values", "task-0"), ("values", "task-1"), ("power",), ("power", 0)},
}
"""What changes answers and is compared with nothing: a stranger's pixels and calibration are what they are."""

CONFIG = run_config("permuted-digits", tasks=2, outputs=12, batches=2, recipe="dense")
IMAGES = np.random.default_rng(0).integers(0, 17, (3, 64)).astype(np.uint8)


def evaluated(folder: Path) -> Any:
    found = evaluate_run(folder, limit=8)
    return found.tasks, found.accuracy, found.given_accuracy, found.task_accuracy


def reported(folder: Path) -> Any:
    made = make_report(folder, folder / "report.html", inference=Inference(), limit=4)
    if made.no_images is not None:  # the page and its caller are told why
        return RunError(made.no_images)
    said = made.to_json()
    return [said[name] for name in ("finished", "tasks", "accuracy", "inferred_accuracy")]


USES: dict[str, Callable[[Path], Any]] = {
    "infer": lambda folder: infer_images(folder, IMAGES).answers,
    "eval": evaluated,
    "report": reported,
    "train": lambda folder: train_run(CONFIG, folder).new_tasks,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_run(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def answers(run: Path) -> dict[str, Any]:
    return {name: use(run) for name, use in USES.items()}


def paths(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where all values of a JSON file are, of a list the first one."""
    inside = (
        content.items() if isinstance(content, dict) else enumerate(content[:1]) if isinstance(content, list) else ()
    )
    for key, value in inside:
        yield (*above, key)
        yield from paths(value, (*above, key))


def forged(content: Any, path: tuple[Any, ...], value: Any) -> str:
    content = copy.deepcopy(content)
    owner = content
    for key in path[:-1]:
        owner = owner[key]
    if value is GONE:
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    return json.dumps(content)


def outcome(use: Callable[[Path], Any], folder: Path) -> Any:
    """What a use gives, or its error, which has to be a named one on one line."""
    try:
        return use(folder)
    except (SupSupError, MaskStoreError) as error:
        check_message(str(error))
        return error


def check(
    name: str, path: tuple[Any, ...], text: str, run: Path, work: Path, answers: dict[str, Any], uses: Any
) -> None:
    """Every use of a run of which one file has another text."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(run, work)
    (work / name).write_text(text)
    for use in uses:
        found = outcome(USES[use], work)
        right = isinstance(found, Exception) or found == answers[use] or path in MEANT[name]
        assert right, f"{use} of {name} with another {path}: {found}"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: "gone" if value is GONE else repr(value))
@pytest.mark.parametrize("name", ["run.json", "calibration.json"])
def test_every_field_of_a_run(name: str, value: Any, run: Path, tmp_path: Path, answers: dict[str, Any]) -> None:
    content = json.loads((run / name).read_text())
    for number, path in enumerate(paths(content)):
        use = list(USES)[(number + VALUES.index(value)) % len(USES)]  # each field meets each use with some value
        check(name, path, forged(content, path, value), run, tmp_path / "run", answers, [use])


@pytest.mark.parametrize(("key", "value"), ADDED)
def test_what_other_runs_say(key: str, value: Any, run: Path, tmp_path: Path, answers: dict[str, Any]) -> None:
    content = json.loads((run / "run.json").read_text())
    check("run.json", (key,), forged(content, (key,), value), run, tmp_path / "run", answers, USES)


FIGURES = ("accuracy", "loss", "seconds", "density", "put_away_at", "more")


@pytest.mark.parametrize("value", [None, "x", True, -1, 1e308, 2**70, [], {"a": 1}], ids=repr)
def test_figures_in_the_bank(value: Any, run: Path, tmp_path: Path, answers: dict[str, Any]) -> None:
    work = tmp_path / "run"
    shutil.copytree(run, work)
    with MaskBank.open(work / "masks.bank", "a") as bank:
        bank.put("task-0", bank["task-0"], meta=dict.fromkeys(FIGURES, value), overwrite=True)
    for name in ("infer", "eval", "train"):
        assert outcome(USES[name], work) == answers[name]
    assert outcome(USES["report"], work)[3] == answers["report"][3]  # its mean is of the figures that are some


@pytest.mark.parametrize("prior", [SeededScores(2**64 - 1, 2**32 - 1), SeededScores(0, 7)])
def test_priors_in_the_bank(prior: SeededScores, run: Path, tmp_path: Path, answers: dict[str, Any]) -> None:
    work = tmp_path / "run"
    shutil.copytree(run, work)
    with MaskBank.open(work / "masks.bank", "a") as bank:
        about: dict[str, Any] = {"meta": bank.task_meta("task-0"), "extras": {"bn.running_var": np.full(3, np.nan)}}
        bank.put("task-0", bank["task-0"], prior=prior, overwrite=True, **about)
    assert {name: outcome(use, work) for name, use in USES.items()} == answers


@pytest.mark.parametrize("name", ["zz", "task-00", "task-4294967295", "\x1b[2J"])
def test_masks_of_no_task(name: str, run: Path, tmp_path: Path) -> None:
    work = tmp_path / "run"
    shutil.copytree(run, work)
    with MaskBank.open(work / "masks.bank", "a") as bank:
        bank.put(name, ~bank["task-0"])
    for use in USES.values():
        outcome(use, work)
