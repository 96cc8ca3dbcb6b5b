"""What callers of runs pass: paths as strings are taken, and what cannot be meant is named in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskstore.errors import CodecError
from supsup_models import (
    Inference,
    MaskedNetwork,
    Run,
    evaluate_run,
    evaluate_seeds,
    infer_images,
    load_run,
    open_stream,
    run_config,
    train_run,
    train_seeds,
)
from supsup_models.errors import ArgumentError, ArgumentTypeError, StreamLengthError
from supsup_models.report import make_report

STREAM = open_stream("split-digits", tasks=1)
MODEL = MaskedNetwork("lenet-300-100", inputs=64, outputs=20, classes=2, seed=0)
CONFIG = run_config("split-digits", tasks=1, batches=2, recipe="dense")


def test_folders_may_be_strings(tmp_path: Path) -> None:
    folder = f"{tmp_path}/run"
    assert train_run(CONFIG, folder).new_tasks == 1
    assert evaluate_run(folder, "GG").tasks == 1
    assert len(infer_images(folder, STREAM[0].test.images(slice(0, 3)).numpy()).answers) == 3
    assert make_report(folder, f"{tmp_path}/page.html").path == tmp_path / "page.html"
    assert make_report(folder).path == tmp_path / "run" / "report.html"
    train_seeds(CONFIG, f"{tmp_path}/seeds", 2)
    assert len(evaluate_seeds(f"{tmp_path}/seeds", "GG").runs) == 2


@pytest.mark.parametrize("wrong", [3, None, object(), ["run"]])
def test_what_is_no_folder_is_named(wrong: Any) -> None:
    calls = (
        lambda: train_run(CONFIG, wrong),
        lambda: train_seeds(CONFIG, wrong, 2),
        lambda: evaluate_run(wrong),
        lambda: evaluate_seeds(wrong),
        lambda: load_run(wrong),
        lambda: make_report(wrong),
        lambda: Run.create(wrong, MODEL, STREAM),
        lambda: Run.open(wrong),
    )
    for call in calls:
        with pytest.raises(ArgumentTypeError, match=r"^folder: expected a path, found "):
            call()


def test_other_arguments_are_named_before_a_run_begins(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", MODEL, STREAM, recipe="dense", batches=2)
    run.train()
    wrong: list[tuple[str, Any]] = [
        ("model: .*convert", lambda: Run.create(tmp_path, torch.nn.Linear(3, 3), STREAM)),  # type: ignore[arg-type]
        ("stream: .*open_stream", lambda: Run.create(tmp_path, MODEL, "split-digits")),  # type: ignore[arg-type]
        ("stream: .*from_arrays", lambda: Run.create(tmp_path, MODEL, [np.ones(3)])),  # type: ignore[arg-type]
        ("batches: ", lambda: Run.create(tmp_path, MODEL, STREAM, batches=1.5)),  # type: ignore[arg-type]
        ("model: ", lambda: Run.open(tmp_path / "run", STREAM, MODEL)),  # type: ignore[arg-type]
        ("stream: ", lambda: Run.open(tmp_path / "run", MODEL, [STREAM])),  # type: ignore[arg-type]
        ("config: .*run_config", lambda: train_run(str(tmp_path), CONFIG)),  # type: ignore[arg-type]
        ("inference: .*Inference", lambda: evaluate_run(tmp_path / "run", "GNu", "one-shot")),  # type: ignore[arg-type]
        ("images: expected an array", lambda: run.infer([[1.0] * 64])),  # type: ignore[arg-type]
    ]
    for says, call in wrong:
        with pytest.raises(ArgumentTypeError, match=rf"^{says}"):
            call()
    assert run.evaluate("GNu", Inference("one-shot"), limit=1).tasks == 1


@pytest.mark.parametrize(
    "wrong",
    [{"batches": "a"}, {"batches": 0}, {"batches": 1.5}, {"outputs": 0}, {"outputs": 10.5}, {"seed": -1}, {"seed": 0.5},
     {"density": "a"}, {"target_bits": "a"}, {"rate_weight": "a"}],
)  # fmt: skip
def test_a_configuration_of_no_run_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises((ArgumentError, CodecError)):
        run_config("split-digits", **wrong)


def test_a_run_has_no_more_tasks_than_anybody_trains() -> None:
    assert run_config("permuted-digits", tasks=100_000).tasks == 100_000
    for stream in ("permuted-digits", "patched-digits"):
        with pytest.raises(StreamLengthError, match="expected at most 100000 tasks in a run, found 100001"):
            run_config(stream, tasks=100_001)
