"""`supsup train`: train a stream's tasks, and go on where an earlier call stopped."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

import maskstore
from maskstore import MaskBank
from maskstore.priors import SeededScores
from supsup_models.calibration import Calibration
from supsup_models.commands.loaded import bank_meta, check_bank, check_same_stream, make_network
from supsup_models.commands.without_identity import train_without_identity
from supsup_models.data.streams import TaskStream, open_stream
from supsup_models.data.tasks import Task
from supsup_models.devices import pick_device
from supsup_models.errors import NetworkError, RunBusyError, RunError
from supsup_models.many import train_many
from supsup_models.names import choose
from supsup_models.networks import ARCHITECTURES, MaskedNetwork
from supsup_models.progress import Reporter
from supsup_models.recipes import RECIPES, Recipe
from supsup_models.runs import RunConfig, RunRecord, bank_path, calibration_path, record_path, remove_run
from supsup_models.scenarios import mask_accuracy
from supsup_models.training import NumberedTask, TrainedTask

_CALIBRATION_IMAGES = 512  # of each task's test images, whose labels are not looked at


@dataclass(frozen=True)
class Trained:
    """What a call of `train` did: the record of the whole run, and how many of its tasks (NNs: masks) were new."""

    record: RunRecord
    new_tasks: int

    @property
    def accuracy(self) -> float:
        """Mean test accuracy over tasks, each under its own mask (GG); of no meaning without task identity."""
        return float(np.mean([task["accuracy"] for task in self.record.tasks]))


def train(
    config: RunConfig,
    folder: Path,
    *,
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    reporter: Callable[[str, int], Reporter] = Reporter,
    restart: bool = False,
) -> Trained:
    """Train the tasks of `config` that `folder` does not hold yet; several side by side, each on the disk as soon as
    it and those before it are done.

    `restart` first removes what an earlier run with the same arguments left there.

    Raises UnknownNameError and the streams' errors for arguments that make no sense, RunError if the folder holds
    another run, RunBusyError if another process is training there.
    """
    recipe = choose("recipe", config.recipe, RECIPES)
    choose("model", config.model, ARCHITECTURES)
    if record_path(folder).exists():
        _check_same_config(folder, config)
    elif bank_path(folder).exists():
        raise RunError(f"{folder}: expected run.json beside masks.bank, found none; choose another folder")
    where = pick_device(device)
    stream = open_stream(config.stream, tasks=config.tasks, seed=config.seed, data=data, download=download)
    record = _new_record(config, recipe, stream, where)
    model = make_network(record, where)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".train.lock", timeout=0):
            if restart:
                remove_run(folder)
            return _train(model, stream, recipe, record, folder, reporter)
    except Timeout:
        raise RunBusyError(f"{folder}: expected no other training here, found one at work") from None


def _train(
    model: MaskedNetwork,
    stream: TaskStream,
    recipe: Recipe,
    record: RunRecord,
    folder: Path,
    reporter: Callable[[str, int], Reporter],
) -> Trained:
    if record_path(folder).exists():  # looked at again, now that nobody else can write it
        record = _check_same_config(folder, record.config)
        check_same_stream(record, stream)
    if not record.config.task_identity:
        with _open_bank(folder, model) as bank:
            return Trained(*train_without_identity(model, stream, recipe, record, folder, bank, reporter))
    new_tasks = 0
    with _open_bank(folder, model) as bank, reporter("training", len(stream)) as report:
        finished = [{"name": info.name, **info.meta} for info in bank.infos()]
        replace(record, tasks=tuple(finished)).write(folder)
        missing = [task for task in stream if task.name not in bank]
        progress = _Progress(report, len(finished), record.config.batches)
        numbered = [NumberedTask(task.index, task.train) for task in missing]
        results = train_many(model, numbered, recipe, steps=record.config.batches, on_step=progress.on_step)
        for task, trained in zip(missing, results, strict=True):
            figures = _keep(model, task, trained, bank)
            finished.append({"name": task.name, **figures})
            new_tasks += 1
            replace(record, tasks=tuple(finished)).write(folder)
            report.line(
                f"{task.name} ({len(finished)} of {len(stream)}): "
                f"accuracy {figures['accuracy']:.4f}, trained in {figures['seconds']:.1f} s"
            )
        if new_tasks or not calibration_path(folder).exists():
            own = {task.name: task.test.images(slice(0, _CALIBRATION_IMAGES)).to(model.weights) for task in stream}
            Calibration.fit(model, bank.matrix(), own).write(calibration_path(folder))
    return Trained(replace(record, tasks=tuple(finished)), new_tasks)


class _Progress:
    """Adds up what the tasks in training have done; called from the threads that train."""

    def __init__(self, report: Reporter, finished: int, batches: int) -> None:
        self._report, self._finished, self._batches = report, finished, batches
        self._done: dict[int, float] = {}

    def on_step(self, number: int, step: int, loss: float) -> None:
        self._done[number] = step / self._batches
        self._report.at(self._finished + sum(self._done.copy().values()))


def _keep(model: MaskedNetwork, task: Task, trained: TrainedTask, bank: MaskBank) -> dict[str, Any]:
    """Judge a trained mask and put it into the bank; returns its figures."""
    figures = {
        "accuracy": mask_accuracy(model, trained.mask, task.test),
        # these are stored with every mask: digits that mean nothing would only cost bytes
        "loss": float(f"{trained.loss:.4g}"),
        "seconds": float(f"{trained.seconds:.3g}"),
        "density": float(f"{trained.mask.density:.4g}"),
    }
    bank.put(task.name, trained.mask, meta=figures, prior=SeededScores(seed=model.seed, task=task.index))
    return figures


def _open_bank(folder: Path, model: MaskedNetwork) -> MaskBank:
    path = bank_path(folder)
    if not path.exists():
        return MaskBank.create(path, model.spec, meta=bank_meta(model))
    bank = MaskBank.open(path, "a")
    try:
        check_bank(bank, model)
    except RunError:
        bank.close()
        raise
    return bank


def _check_same_config(folder: Path, config: RunConfig) -> RunRecord:
    record = RunRecord.read(folder)
    if record.config != config:
        raise RunError(
            f"{folder}: expected the arguments that this run was started with, found {config.difference(record.config)}"
        )
    return record


def _new_record(config: RunConfig, recipe: Recipe, stream: TaskStream, device: torch.device) -> RunRecord:
    if not 1 <= stream.classes <= config.outputs:
        raise NetworkError(f"outputs: expected at least the stream's {stream.classes} classes, found {config.outputs}")
    network = {
        "inputs": stream.inputs,
        "outputs": config.outputs,
        "classes": stream.classes,
        "weight_gain": recipe.weight_gain,
    }
    pixels = {"scale": stream[0].test.scale, "shift": stream[0].test.shift}
    versions = {
        "maskstore": maskstore.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    return RunRecord(config, network, stream.to_json(), pixels, versions, device.type)
