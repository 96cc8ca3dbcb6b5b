"""What a prompt shows of the main objects: one short line that says what they hold, and no array."""

from pathlib import Path

import pytest

from maskstore import MaskBank, MaskMatrix
from supsup_models import (
    Calibration,
    MaskedNetwork,
    MaskServer,
    NumberedTask,
    Recipe,
    TaskInference,
    open_stream,
    train_task,
)
from supsup_models.data import load_data_set


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    stream = open_stream("split-digits", tasks=2)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
    trained = train_task(model, stream[0].train, Recipe("short"), task=0, steps=1)
    matrix = MaskMatrix(model.spec, [trained.mask], ["task-0"])
    calibration = Calibration.fit(model, matrix, {"task-0": stream[0].test.images(slice(0, 9))})
    return {
        "TaskStream": repr(stream),
        "Task": repr(stream[1]),
        "Split": repr(stream[1].train),
        "NumberedTask": repr(NumberedTask(3, stream[1].train)),
        "DataSet": repr(load_data_set("digits")),
        "TrainedTask": repr(trained),
        "Calibration": repr(calibration),
        "TaskInference": repr(TaskInference(model, matrix, calibration=calibration)),
        "MaskServer": repr(MaskServer(model, matrix)),
    }


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("TaskStream", "split-digits: 2 tasks, 64 inputs"),
        ("Task", "task-1: 2 classes, 288 images to train on, 72 to test on"),
        ("Split", "288 images of 64 values"),
        ("NumberedTask", "3: 288 images"),
        ("DataSet", "digits: 10 classes, 1437 images to train on"),
        ("TrainedTask", "of 50200 bits"),
        ("Calibration", "of 1 masks"),
        ("TaskInference", "1 masks of 50200 bits, Calibration"),
        ("MaskServer", "1 masks of 50200 bits; cache: 0 masks"),
    ],
)
def test_a_prompt_shows_one_short_line(shown: dict[str, str], name: str, says: str) -> None:
    assert shown[name].startswith(f"{name}(")
    assert says in shown[name]
    assert "\n" not in shown[name]
    assert "tensor" not in shown[name]
    assert "0x" not in shown[name]
    assert len(shown[name]) < 160


def test_a_server_over_a_bank_is_shown_as_well(tmp_path: Path) -> None:
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
    with MaskBank.create(tmp_path / "m.bank", model.spec) as bank:
        bank.put("a", model.mask_of(model.initial_scores(0)))
        server = MaskServer(model, bank)
        server.weights("a")
        assert "1 masks of 50200 bits; cache: 1 masks" in repr(server)
