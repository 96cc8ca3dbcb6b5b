"""Runs made in Python: own modules and own data are resumed, judged, inferred and reported as all runs are."""

import html
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskstore import KeptWeights, MaskBank
from supsup_models import ConvertedModel, MaskedNetwork, Recipe, RMSProp, Run, TaskStream, convert, open_stream
from supsup_models.cli.app import run_command
from supsup_models.errors import NetworkError, RunError, TaskDataError, UnknownNameError
from supsup_models.networks import MultilayerPerceptron
from supsup_models.report import make_report
from supsup_models.runs import RunRecord, bank_path, record_path
from tests.helpers.commands import error_of


def own_stream(tasks: int = 3, *, seed: int = 0, **options: Any) -> TaskStream:
    """Tasks of two classes in 6 x 6 images: task t's class is told by row t."""
    draw = np.random.default_rng(seed)

    def labelled(images: int, row: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        labels = draw.integers(0, 2, images)
        pixels = draw.normal(size=(images, 1, 6, 6)).astype("f4")
        pixels[:, 0, row] += 4 * labels[:, None] - 2
        return pixels, labels

    return TaskStream.from_arrays([(*labelled(120, row), *labelled(60, row)) for row in range(tasks)], **options)


def own_model(seed: int = 1, bias: float = 0.0, **options: Any) -> ConvertedModel:
    layers = (torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Flatten())
    module = torch.nn.Sequential(*layers, torch.nn.Linear(96, 2))
    if options.get("weights") == "keep":
        torch.manual_seed(0)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        torch.nn.init.constant_(module[4].bias, bias)
    else:
        options = {"mask": "edge-popup", **options}
    return convert(module, seed=seed, image_shape=(1, 6, 6), **options)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("own") / "run", own_model(), own_stream(), batches=20)
    assert run.train().new_tasks == 3
    return run


def test_a_run_is_judged_inferred_and_reported(own: Run) -> None:
    given = own.evaluate("GG")
    assert given.accuracy > 0.8
    assert given.accuracy == pytest.approx(np.mean([task["accuracy"] for task in own.record.tasks]))
    inferred = own.evaluate()
    assert inferred.scenario == "GNu"
    assert inferred.given_accuracy == given.accuracy
    answers = own.infer(own.stream[1].test.images(slice(0, 8)).numpy(), one_task=True).answers
    assert len(answers) == 8
    assert answers[0].task_confidence is not None
    report = make_report(own)
    assert report.path == own.folder / "report.html"
    assert set(report.page.drawn) >= {"accuracy", "training", "storage", "confusion"}
    text = html.unescape(report.path.read_text())
    assert "Run.create('run', model, stream, recipe=\"edge-popup\", batches=20)" in text
    assert "supsup train" not in text
    assert "supsup recover RUN" not in text


def test_a_run_opens_with_its_network_and_data(own: Run) -> None:
    again = Run.open(own.folder, own_model(), own_stream())
    assert again.evaluate("GG").accuracy == own.evaluate("GG").accuracy
    assert again.train().new_tasks == 0
    assert repr(again).endswith("Sequential on arrays)")


@pytest.mark.parametrize(
    ("model", "stream", "phrase"),
    [
        (None, None, "expected a network that its name stands for, found Sequential, given in Python; open the run"),
        ({}, None, "expected a stream of `open_stream`, found data that was given in Python"),
        ({"seed": 2}, {}, "expected the network that the run was made with, found another ConvertedModel"),
        ({"density": 0.4}, {}, "expected the network that the run was made with"),
        ({}, {"seed": 1}, "expected the data that the run was made with, found other labels or images of task-0"),
        ({}, {"name": "others"}, "expected the data that the run was trained on, found stream 'others' "),
        ({}, {"mean": 0.5}, "found mean 0.5 "),
    ],
)
def test_other_networks_and_data_are_refused(model: Any, stream: Any, phrase: str, own: Run) -> None:
    with pytest.raises(RunError, match=phrase.replace(".", r"\.")):
        Run.open(
            own.folder,
            None if model is None else own_model(**model),
            None if stream is None else own_stream(**stream),
        )


@pytest.mark.parametrize(
    ("model", "stream", "options", "phrase"),
    [
        ({"seed": 2}, {}, {}, "found seed 2"),
        ({"density": 0.4}, {}, {}, "found another network"),
        ({}, {"seed": 1}, {}, "found other data"),
        ({}, {"tasks": 2}, {}, "found tasks 2"),
        ({}, {}, {"batches": 21}, "found batches 21"),
        ({}, {}, {"transfer": True}, "found transfer True"),
        ({}, {}, {"recipe": Recipe("edge-popup", RMSProp(1e-3))}, "found another recipe"),
    ],
)
def test_a_run_goes_on_with_what_it_was_started_with(
    model: dict[str, Any], stream: dict[str, Any], options: dict[str, Any], phrase: str, own: Run
) -> None:
    before = bank_path(own.folder).read_bytes(), record_path(own.folder).read_bytes()
    run = Run.create(own.folder, own_model(**model), own_stream(**stream), **{"batches": 20, **options})
    with pytest.raises(RunError, match=phrase):
        run.train()
    assert (bank_path(own.folder).read_bytes(), record_path(own.folder).read_bytes()) == before


def test_kept_weights_are_part_of_the_network(tmp_path: Path) -> None:
    """Two networks of one seed and one shape, with other biases, which no bank tells apart."""
    stream = own_stream(1)
    Run.create(tmp_path / "run", own_model(weights="keep"), stream, batches=2).train()
    assert Run.open(tmp_path / "run", own_model(weights="keep"), stream).evaluate("GG").tasks == 1
    with pytest.raises(RunError, match="expected the network that the run was made with"):
        Run.open(tmp_path / "run", own_model(weights="keep", bias=3.0), stream)


def test_a_run_that_was_stopped_goes_on(own: Run, tmp_path: Path) -> None:
    class Stopping:
        def __init__(self) -> None:
            self.lines = 0

        def line(self, _: str) -> None:
            self.lines += 1
            if self.lines == 2:
                raise KeyboardInterrupt

        def part(self, *_: object) -> None: ...

        def at(self, *_: object) -> None: ...

    @contextmanager
    def stopping(*_: object) -> Iterator[Any]:
        yield Stopping()

    run = Run.create(tmp_path / "run", own_model(), own_stream(), batches=20)
    with pytest.raises(KeyboardInterrupt):
        run.train(reporter=stopping)  # type: ignore[arg-type]
    assert [task["name"] for task in run.record.tasks] == ["task-0", "task-1"]
    again = Run.create(tmp_path / "run", own_model(), own_stream(), batches=20)
    assert again.train().new_tasks == 1
    assert again.record.tasks[0]["curve"] == own.record.tasks[0]["curve"]
    assert all(again.loaded.matrix[row] == own.loaded.matrix[row] for row in range(3))
    more = Run.create(tmp_path / "run", own_model(), own_stream(4), batches=20)
    with pytest.raises(RunError, match="found other data"):  # the stream's random numbers are others from the start
        Run.create(tmp_path / "run", own_model(), own_stream(4, seed=5), batches=20).train()
    assert more.train().new_tasks == 1


def test_commands_say_what_they_cannot_do(own: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 36), "f4"))
    capsys.readouterr()
    for words in (["eval"], ["infer", str(tmp_path / "images.npy")], ["recover"]):
        assert run_command([words[0], str(own.folder), *words[1:]]) == 1
        assert "given in Python" in error_of(capsys)
    assert run_command(["report", str(own.folder), "-o", str(tmp_path / "page.html")]) == 0
    assert "made in Python; `make_report(Run.open(folder, model, stream))` judges it" in capsys.readouterr().err
    text = (tmp_path / "page.html").read_text()
    assert "This run&#x27;s network or data were given in Python." in text
    assert "None" not in text


def test_a_network_with_a_name_needs_only_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = own_stream(2)
    model = MaskedNetwork("lenet-300-100", inputs=36, outputs=10, classes=2, seed=3)
    run = Run.create(tmp_path / "run", model, stream, batches=30)
    run.train()
    opened = Run.open(tmp_path / "run", stream=stream)
    assert opened.evaluate("GG").accuracy == run.evaluate("GG").accuracy > 0.8
    np.save(tmp_path / "images.npy", stream[1].test.images(slice(0, 4)).numpy())
    assert run_command(["infer", str(run.folder), str(tmp_path / "images.npy"), "--one-task"]) == 0
    assert "image 3: task-1" in capsys.readouterr().out
    assert run_command(["eval", str(run.folder)]) == 1
    assert "found data that was given in Python" in error_of(capsys)


def test_a_named_stream_needs_only_a_network(tmp_path: Path) -> None:
    """The stream's seed is its own, and not the network's."""
    stream = open_stream("split-digits", tasks=2, seed=9)
    small = MultilayerPerceptron("small", hidden=(32,))
    model = MaskedNetwork(small, inputs=64, outputs=4, classes=2, seed=3)
    run = Run.create(tmp_path / "run", model, stream, recipe=Recipe("mine", RMSProp(1e-3)), batches=30)
    run.train()
    opened = Run.open(tmp_path / "run", model)
    assert opened.stream.to_json() == stream.to_json()
    assert opened.evaluate("GG").accuracy == run.evaluate("GG").accuracy
    with pytest.raises(RunError, match=r"expected the run's own recipe, found none known; `Run\.create` takes it"):
        opened.train()


def test_a_run_of_the_command_line_opens(tmp_path: Path) -> None:
    words = ["--stream", "permuted-digits", "--tasks", "2", "--outputs", "40", "--batches", "10", "--recipe", "dense"]
    assert run_command(["train", *words, "--out", str(tmp_path / "run")]) == 0
    run = Run.open(tmp_path / "run", device="cpu")
    assert run.evaluate("GG", limit=40).tasks == 2
    assert run.train().new_tasks == 0
    assert RunRecord.read(tmp_path / "run").own is None


@pytest.mark.parametrize(
    ("options", "error", "phrase"),
    [
        ({"recipe": "dens"}, UnknownNameError, "did you mean 'dense'"),
        ({"batches": 0}, NetworkError, "expected at least 1 batch, found 0"),
        ({"stream": "split-digits"}, NetworkError, "expected images of 64 values and at least 2 classes"),
    ],
)
def test_arguments_are_checked_before_there_is_a_folder(
    options: dict[str, Any], error: type[Exception], phrase: str, tmp_path: Path
) -> None:
    stream = open_stream(options.pop("stream")) if "stream" in options else own_stream(1)
    with pytest.raises(error, match=phrase):
        Run.create(tmp_path / "run", own_model(), stream, **options)
    assert not (tmp_path / "run").exists()


def computing(activation: torch.nn.Module, stride: int = 1) -> ConvertedModel:
    """Networks of the same numbers, whatever the activation."""
    layers = (torch.nn.Conv2d(1, 6, 3, stride), activation, torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    torch.manual_seed(0)
    return convert(torch.nn.Sequential(*layers, torch.nn.Linear(24, 2)), image_shape=(1, 6, 6))


def test_a_network_of_the_same_numbers_that_computes_otherwise_is_refused(tmp_path: Path) -> None:
    stream = own_stream(2)
    Run.create(tmp_path, computing(torch.nn.ReLU()), stream, batches=2).train()
    assert Run.create(tmp_path, computing(torch.nn.ReLU()), stream, batches=2).train().new_tasks == 0
    assert Run.open(tmp_path, computing(torch.nn.ReLU()), stream).evaluate("GG").tasks == 2
    for other in (computing(torch.nn.Tanh()), computing(torch.nn.LeakyReLU(0.2)), computing(torch.nn.ReLU(), stride=2)):
        with pytest.raises(RunError, match="gives other answers; its layers or their order have changed"):
            Run.open(tmp_path, other, stream)
        with pytest.raises(RunError, match="found another network"):
            Run.create(tmp_path, other, stream, batches=2).train()


def test_networks_that_answer_at_random_and_older_records_are_taken(tmp_path: Path) -> None:
    class Noise(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x)

    stream = own_stream(2)
    run = Run.create(tmp_path / "random", computing(Noise()), stream, batches=2)
    run.train()
    assert run.record.own is not None
    assert run.record.own.answers is None
    assert Run.open(tmp_path / "random", computing(Noise()), stream).evaluate("GG").tasks == 2
    Run.create(tmp_path / "old", computing(torch.nn.ReLU()), stream, batches=2).train()
    content = json.loads(record_path(tmp_path / "old").read_text())
    assert len(content["own"].pop("answers")) == 8
    record_path(tmp_path / "old").write_text(json.dumps(content))
    assert Run.open(tmp_path / "old", computing(torch.nn.ReLU()), stream).evaluate("GG").tasks == 2
    assert Run.create(tmp_path / "old", computing(torch.nn.ReLU()), stream, batches=2).train().new_tasks == 0


def backbone_model() -> ConvertedModel:
    torch.manual_seed(4)
    layers = (torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Flatten())
    module = torch.nn.Sequential(*layers, torch.nn.Linear(96, 7))
    return convert(module, weights="keep", head="4", own="norm", image_shape=(1, 6, 6), classes=2)


def test_tasks_on_a_trained_network_are_a_run_like_any(tmp_path: Path) -> None:
    """Own module, own data sets; one run is interrupted after each task."""

    class Pairs(torch.utils.data.Dataset[Any]):
        def __init__(self, images: Any, labels: Any) -> None:
            self.images, self.labels = images, labels

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> Any:
            return self.images[index], int(self.labels[index])

    parts = [(task.train, task.test) for task in own_stream()]
    data = [[Pairs(part.images(slice(None)).view(-1, 1, 6, 6), part.labels) for part in pair] for pair in parts]
    stream, model = TaskStream.from_datasets(data), backbone_model()
    whole = Run.create(tmp_path / "whole", model, stream, batches=30)
    assert whole.record.config.recipe == "backbone"
    whole.train()
    for count in (1, 2, 3):
        some = TaskStream.from_datasets(data[:count])
        assert Run.create(tmp_path / "parts", backbone_model(), some, batches=30).train().new_tasks == 1
    parts_run = Run.open(tmp_path / "parts", backbone_model(), stream)
    assert all(parts_run.loaded.matrix[row] == whole.loaded.matrix[row] for row in range(3))
    found = parts_run.evaluate("GG")
    assert found.accuracy > 0.8
    assert found.accuracy == pytest.approx(np.mean([task["accuracy"] for task in parts_run.record.tasks]))
    with MaskBank.open(bank_path(tmp_path / "parts"), "a") as bank:  # masks that only the weights decode
        for name in list(bank):
            bank.put(name, bank[name], meta=bank.task_meta(name), extras=bank.extras(name),
                     prior=KeptWeights(model.backbone()), overwrite=True)  # fmt: skip
    coded = Run.open(tmp_path / "parts", backbone_model(), stream)
    assert coded.evaluate("GG").accuracy == found.accuracy
    assert Run.create(tmp_path / "parts", backbone_model(), stream, batches=30).train().new_tasks == 0
    answers = parts_run.infer(stream[1].test.images(slice(0, 4)).numpy(), one_task=True)
    assert len(answers.answers) == 4
    assert "accuracy" in make_report(parts_run).page.drawn


def test_tasks_have_the_names_that_their_caller_gives(tmp_path: Path) -> None:
    arrays = [
        (task.train.images(slice(None)), task.train.labels, task.test.images(slice(None)), task.test.labels)
        for task in own_stream(2)
    ]
    stream = TaskStream.from_arrays({"acme": arrays[0], "bolt": arrays[1]})
    assert [task.name for task in stream] == ["acme", "bolt"]
    assert [task.index for task in stream.named(["bolt", "task-0", "acme"])] == [0, 1]
    run = Run.create(tmp_path / "run", backbone_model(), stream, batches=4)
    run.train()
    assert run.loaded.matrix.names == ("acme", "bolt")
    assert Run.open(tmp_path / "run", backbone_model(), stream).evaluate("GG").tasks == 2
    with pytest.raises(RunError, match="found other data"):
        Run.create(tmp_path / "run", backbone_model(), TaskStream.from_arrays(arrays), batches=4).train()
    pair = tuple([(image, int(label)) for image, label in zip(*part, strict=True)] for part in (arrays[0][:2],) * 2)
    assert TaskStream.from_datasets({"acme": pair})[0].name == "acme"
    for name in ("", 3, "a\0"):
        with pytest.raises(TaskDataError, match="expected names of masks"):
            TaskStream.from_arrays({name: arrays[0]})  # type: ignore[dict-item]


def test_more_classes_than_a_run_was_started_with_are_refused(tmp_path: Path) -> None:
    images, labels = np.zeros((6, 36), "f4"), np.arange(6) % 2
    first = (images, labels, images, labels)
    more = (images, np.arange(6) % 3, images, np.arange(6) % 3)

    def run(tasks: list[Any]) -> Run:
        model = convert(torch.nn.Linear(36, 3), weights="keep", image_shape=(36,))
        return Run.create(tmp_path / "run", model, TaskStream.from_arrays(tasks), batches=2, recipe="dense")

    run([first]).train()
    with pytest.raises(RunError, match=r"found classes 3 \(not 2\); .* from the start: `classes=3`"):
        run([first, more]).train()
