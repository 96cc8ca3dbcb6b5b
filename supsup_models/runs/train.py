"""Train a stream's tasks into a run's folder, and go on where an earlier call stopped."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from filelock import FileLock, Timeout

from maskstore import Mask, MaskBank
from maskstore.files import check_local, named_os_errors
from supsup_models._names import expect, path_of
from supsup_models._progress import Reporter, Reporting
from supsup_models.data import Task, TaskStream, Views, open_stream
from supsup_models.errors import RunBusyError, RunError
from supsup_models.inference import Calibration, mask_accuracy
from supsup_models.networks import MaskedModel, MaskedNetwork, mask_densities
from supsup_models.runs.config import (
    check_independent,
    check_same_config,
    make_network,
    new_record,
    pick_device,
    run_recipe,
    shard_of,
    task_extras,
)
from supsup_models.runs.own import check_same_own
from supsup_models.runs.record import (
    Clock,
    RunConfig,
    RunRecord,
    Shard,
    bank_path,
    calibration_path,
    record_path,
    remove_run,
    seed_folders,
)
from supsup_models.runs.train_target import meet_target
from supsup_models.runs.train_unnamed import train_without_identity
from supsup_models.runs.workers import Executes, JudgedTask, SharingExecutor, TrainingJob, Workers, judged_tasks
from supsup_models.training import NumberedTask, Recipe, TrainedTask, train_many, train_task

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


def train_run(
    config: RunConfig,
    folder: str | Path,
    *,
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    reporter: Reporting = Reporter,
    restart: bool = False,
    shard: Shard | str | None = None,
    executor: Executes | Workers | None = None,
) -> Trained:
    """Train the tasks of `config` that `folder` does not hold yet.

    A mask is on the disk as soon as it and those before it are done, so a run that was interrupted goes on where it
    stopped. Several tasks are trained side by side where the network is a `MaskedNetwork` and nothing is transferred. A
    run with task identity goes on with more tasks than it was started with, if `config` asks for them.

    Args:
        config: What to train.
        folder: The run's folder; made if it is not there.
        data: Folder with the data set's files; the usual places are searched without it.
        download: Fetch the data set if it is not found.
        device: "auto", "cpu" or "cuda".
        reporter: Makes what shows progress; lines and a bar on standard error if not said.
        restart: First remove what an earlier run with the same arguments left in the folder.
        shard: Which part of the tasks, such as "0/3"; all of them if not said. `merge_runs` makes one run of all parts.
        executor: Where the tasks are trained: an executor of `concurrent.futures`, another object with its `submit`, a
            `RayExecutor`, or `Workers` of one, which say more. This process then writes what comes back, in order. It
            stays open; a data set that has a name is opened anew by each worker, in the same place.

    Returns:
        The record of the whole run, and how many of its masks are new.

    Raises:
        ArgumentError: Arguments that make no sense.
        DataNotFoundError, DataFormatError, DownloadError: From the data set.
        DeviceError: The device is not there.
        RunError: The folder holds another run, or another shard.
        ShardError: The tasks cannot be trained apart; the run transfers scores from task to task, for one.
        WorkerError: A worker was lost, or could not be given its work.
        RunBusyError: Another process is training there.
        NetworkFileSystemError: The folder is on a network file system, where a bank cannot be written.
        MaskStoreError: The folder cannot be written.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import run_config, train_run
        >>> config = run_config("permuted-digits", tasks=2, outputs=40, batches=10, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     trained = train_run(config, Path(folder))
        ...     again = train_run(config, Path(folder))
        >>> trained.new_tasks, again.new_tasks  # the second call finds nothing left to do
        (2, 0)
        >>> [task["name"] for task in trained.record.tasks]
        ['task-0', 'task-1']
    """
    expect("config", config, RunConfig, "what run_config makes")
    recipe, folder = run_recipe(config), path_of("folder", folder)
    part = None if shard is None else shard_of(config, shard)
    if record_path(folder).exists():
        check_same_config(folder, config, part)
    elif bank_path(folder).exists():
        raise RunError(f"{folder}: expected run.json beside masks.bank, found none; choose another folder")
    elif seed_folders(folder):
        raise RunError(f"{folder}: expected a folder for a single run, found runs of several seeds")
    where = pick_device(device)
    stream = open_stream(config.stream, tasks=config.tasks, seed=config.seed, data=data, download=download)
    record = replace(new_record(config, recipe, stream, where), shard=part)
    model = make_network(record, where)
    source = partial(open_stream, config.stream, tasks=config.tasks, seed=config.seed, data=data)
    return train_into(
        folder, model, stream, recipe, record, reporter=reporter, restart=restart, executor=executor, source=source
    )


def train_into(
    folder: Path,
    model: MaskedModel,
    stream: TaskStream,
    recipe: Recipe,
    record: RunRecord,
    *,
    reporter: Reporting,
    restart: bool,
    executor: Executes | Workers | None = None,
    source: Callable[[], TaskStream] | None = None,
) -> Trained:
    """Train what a folder lacks of the run that `record` describes; what `train_run` and `Run.train` do.

    Workers open the stream by `source`; where there is none, they are sent it.

    Raises RunError for a folder of another run, RunBusyError where another process is at work.
    """
    elsewhere = None
    if executor is not None:
        check_independent(record.config, "executor")
        elsewhere = Elsewhere(Workers.of(executor), source)
    if not record_path(folder).exists() and bank_path(folder).exists():
        raise RunError(f"{folder}: expected run.json beside masks.bank, found none; choose another folder")
    check_local(folder)  # before anything is made there
    with named_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(folder / ".train.lock").acquire(timeout=0)
        except Timeout:
            raise RunBusyError(f"{folder}: expected no other training here, found one at work") from None
    with held:
        if restart:
            remove_run(folder)
        recipe = recipe.for_images(stream.image_shape)
        return _train(model, stream, recipe, record, folder, reporter, elsewhere)


def _train(
    model: MaskedModel,
    stream: TaskStream,
    recipe: Recipe,
    record: RunRecord,
    folder: Path,
    reporter: Reporting,
    elsewhere: "Elsewhere | None",
) -> Trained:
    clock = Clock(None, _accelerator(model.device))
    if record_path(folder).exists():  # looked at again, now that nobody else can write it
        earlier = check_same_config(folder, record.config, record.shard)
        earlier.check_stream(stream)
        check_same_own(folder, record.own, earlier.own)
        sizes, expected = (replace(each.network, densities=None) for each in (earlier, record))
        if sizes != expected:
            raise RunError(f"{folder}: expected a network of sizes {expected.to_json()}, found {sizes.to_json()}")
        clock = Clock(earlier.history, _accelerator(model.device))
        record = replace(earlier, config=record.config, stream=record.stream, own=record.own)
        model = make_network(record, model.device) if record.own is None else model
    elif record.config.target_bits is not None:
        record = meet_target(record, stream, recipe, model.device, folder, clock, reporter)
        model = make_network(record, model.device)
    else:
        record = replace(record, history=clock.now())
        record.write(folder)  # before there is a bank, which without a record belongs to nobody
    if not record.config.task_identity:
        assert isinstance(model, MaskedNetwork)  # `run_config` says so to whoever asks for another
        with _open_bank(folder, model, record) as bank:
            return Trained(*train_without_identity(model, stream, recipe, record, folder, bank, clock, reporter))
    tasks = stream if record.shard is None else stream[record.shard.slice]
    with _open_bank(folder, model, record) as bank, reporter("training", len(tasks)) as report:
        finished = finished_tasks(bank, record)
        replace(record, tasks=tuple(finished)).write(folder)
        missing = [task for task in tasks if task.name not in bank]
        report.part("finished before", len(finished))
        start = perf_counter()  # tasks train side by side: their own times say nothing of the whole

        def on_step(number: int, step: int, loss: float) -> None:
            report.part(number, step / record.config.batches)

        if elsewhere is None:
            results = _results(model, missing, recipe, record.config, bank, on_step)
        else:
            results = elsewhere.results(model, stream, recipe, record, [task.index for task in missing], report)
        with closing(results):
            for task in results:
                bank.put(task.name, task.mask, meta=task.figures, extras=task.extras, prior=task.prior)
                finished.append({"name": task.name, **task.figures, **task.details})
                if task.processor:
                    clock.also_on(task.processor)
                record = replace(record, history=clock.now())
                replace(record, tasks=tuple(finished)).write(folder)
                report.line(
                    f"{task.name} ({len(finished)} of {len(tasks)}): accuracy {task.figures['accuracy']:.4f}, "
                    f"{perf_counter() - start:.1f} s so far{task.worker and f', by {task.worker}'}"
                )
        if missing or not _is_calibrated(folder, bank):
            calibrate(folder, model, tasks, bank, record)
    return Trained(replace(record, tasks=tuple(finished)), len(missing))


def _results(
    model: MaskedModel,
    tasks: Sequence[Task],
    recipe: Recipe,
    config: RunConfig,
    bank: MaskBank,
    on_step: Callable[[int, int, float], None],
) -> Generator[JudgedTask]:
    """The tasks' masks, in order.

    One after another where a mask starts from those before it, and for converted networks: their modules are changed
    while they train (training mode, dropout's random stream), and their products are large enough to share the cores.
    """
    if isinstance(model, MaskedNetwork) and not config.transfer:
        numbered = [NumberedTask(task.index, task.train) for task in tasks]
        side_by_side = train_many(model, numbered, recipe, steps=config.batches, on_step=on_step)
        for task, trained in zip(tasks, side_by_side, strict=True):
            yield judge(model, task, trained)
        return
    earlier = bank.matrix() if config.transfer else None
    for task in tasks:
        trained = train_task(
            model,
            task.train,
            recipe,
            task=task.index,
            steps=config.batches,
            transfer=earlier,
            on_step=partial(on_step, task.index),
        )
        if earlier is not None:
            earlier.append(task.name, trained.mask)
        yield judge(model, task, trained)


def calibrate(folder: Path, model: MaskedModel, tasks: Iterable[Task], bank: MaskBank, record: RunRecord) -> None:
    """Write the calibration of a run's masks, one for each of `tasks`, on images of their own."""
    own = ((task.name, task.test.images(slice(0, _CALIBRATION_IMAGES)).to(model.weights)) for task in tasks)
    views = None if record.views is None else Views(record.views.image_shape, record.views.count)
    calibration = Calibration.fit(model, bank.matrix(), own, task_extras(bank, model), views=views)
    calibration.write(calibration_path(folder))


def _is_calibrated(folder: Path, bank: MaskBank) -> bool:
    """Whether the folder's calibration is whole, and of all masks of the bank."""
    try:
        return Calibration.read(calibration_path(folder)).covers(bank)
    except (FileNotFoundError, RunError):
        return False


def finished_tasks(bank: MaskBank, record: RunRecord) -> list[dict[str, Any]]:
    """Figures of the tasks in a bank. Densities by layer and curves are in the record only; a mask that the record
    does not know, because training was killed between the two, has its densities counted anew, and no curve."""
    known = {task.get("name"): task for task in record.tasks}
    finished = []
    for info in bank.infos():
        task = known.get(info.name, {})
        densities = dict(task.get("densities") or _densities(bank[info.name]))
        curve = {"curve": task["curve"]} if "curve" in task else {}
        finished.append({"name": info.name, **info.meta, "densities": densities, **curve})
    return finished


def _accelerator(device: torch.device) -> str | None:
    """The name of a device that is not the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def _densities(mask: Mask) -> dict[str, float]:
    return {layer: float(f"{density:.4g}") for layer, density in mask_densities(mask).items()}


def judge(model: MaskedModel, task: Task, trained: TrainedTask) -> JudgedTask:
    """A trained mask with its figures: those on the task's test images among them."""
    extras: Mapping[str, Any] = trained.halved()
    judged = extras  # in fewer digits, as the bank will give them back
    if model.own_parameters:
        extras = trained.rounded()
        judged = {name: each.values for name, each in trained.rounded().items()}
    figures = {
        "accuracy": mask_accuracy(model, trained.mask, task.test, judged),
        # these are stored with every mask: digits that mean nothing would only cost bytes
        "loss": float(f"{trained.loss:.4g}"),
        "seconds": float(f"{trained.seconds:.3g}"),
        "density": float(f"{trained.mask.density:.4g}"),
    }
    details = {"densities": _densities(trained.mask), "curve": trained.curve.to_json()}
    return JudgedTask(task.name, trained.mask, figures, details, extras, trained.prior)


@dataclass(frozen=True)
class Elsewhere:
    """The workers of a call that trains, and what opens the stream where they are."""

    workers: Workers
    source: Callable[[], TaskStream] | None

    def results(
        self,
        model: MaskedModel,
        stream: TaskStream,
        recipe: Recipe,
        record: RunRecord,
        numbers: Sequence[int],
        report: Reporter,
    ) -> Generator[JudgedTask]:
        """The tasks of these numbers, in order, as the workers trained them."""
        shared = isinstance(self.workers.executor, SharingExecutor)
        job = TrainingJob(
            uuid4().hex,
            replace(record, tasks=(), device=model.device.type),
            recipe,
            judge,
            stream if shared or self.source is None else self.source,
            None if record.own is None or record.own.network is None else model,
            self.workers.threads,
        )
        yield from judged_tasks(self.workers, job, numbers, model.spec, report.line)


def _open_bank(folder: Path, model: MaskedModel, record: RunRecord) -> MaskBank:
    path = bank_path(folder)
    if not path.exists():
        return MaskBank.create(path, model.spec, meta=record.bank_meta(model))
    bank = MaskBank.open(path, "a", backbone=model.coding_backbone())
    try:
        record.check_bank(bank, model)
    except RunError:
        bank.close()
        raise
    return bank
