"""A finished run, loaded for use: its network, its masks and its stream."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskstore import MaskBank, MaskMatrix
from maskstore.index import index_of
from supsup_models._names import expect, path_of
from supsup_models.data import Task, TaskStream, Views, checked_view_count, open_stream
from supsup_models.errors import RunError
from supsup_models.inference import Inference
from supsup_models.networks import ARCHITECTURES, MaskedModel, MaskedNetwork, TaskExtras, check_model
from supsup_models.runs.config import make_network, network_spec, pick_device, task_extras
from supsup_models.runs.own import check_own_data, check_own_network
from supsup_models.runs.record import RunRecord, bank_path


@dataclass(frozen=True)
class LoadedRun:
    """The network on its device, all masks of the bank, packed, and their normalisation statistics by name."""

    folder: Path
    record: RunRecord
    model: MaskedModel
    matrix: MaskMatrix
    extras: TaskExtras
    seen: int | None = None
    """How many tasks a run without task identity has seen, the last one perhaps in part; None for any other run."""
    own_stream: TaskStream | None = None
    """The stream, where the caller gave it."""

    @property
    def masked_network(self) -> MaskedNetwork:
        """The network where it is one of threshold masks on linear layers; RunError for any other."""
        if not isinstance(self.model, MaskedNetwork):
            raise RunError(
                f"run of {self.record.config.model}: expected threshold masks on {' or '.join(ARCHITECTURES)}, "
                f"found {self.record.config.mask} masks on {self.record.config.weights} weights"
            )
        return self.model

    def stream(self, data: Path | None = None, download: bool = False) -> TaskStream:
        """The stream that the run was trained on; RunError if the data there is not the same."""
        config = self.record.config
        if self.own_stream is not None:
            return self.own_stream
        if self.record.own is not None and self.record.own.data is not None:
            raise RunError(
                f"{self.folder}: expected a stream of `open_stream`, found data that was given in Python; open the run "
                "with `Run.open(folder, model, stream)`"
            )
        known = self.record.stream.get("seed")
        seed = known if type(known) is int and 0 <= known < 1 << 64 else config.seed  # `Run.create` takes any stream
        stream = open_stream(config.stream, tasks=config.tasks, seed=seed, data=data, download=download)
        self.record.check_stream(stream)
        return stream

    def tasks(self, stream: TaskStream) -> list[Task]:
        """The stream's tasks that have a mask, those that a run without task identity has seen; RunError if none."""
        names = self.matrix.names
        tasks = stream.named(names) if self.seen is None else list(stream[: self.seen])
        if not tasks:
            raise RunError(f"stream {stream.name}: expected tasks with a mask in the run, found {', '.join(names[:4])}")
        return tasks

    def with_views(self, inference: Inference, count: int | None = None) -> Inference:
        """The inference with the views that the run's masks were trained with, for the method that looks at them.

        Args:
            inference: How tasks are inferred; views of its own stay.
            count: How many views; all of them if not said.

        Raises:
            NetworkError: Another number of views than 1, 4 or 8.
            RunError: More views than the masks know.
        """
        trained = self.record.views
        most = 1 if trained is None else trained.count
        if count is not None and checked_view_count(count) > most:
            raise RunError(
                f"{self.folder}: expected at most {most} views, as its masks were trained with, found {count}; "
                'masks of `recipe="views"` know 8'
            )
        if inference.method not in (None, "pairs") or inference.views is not None or trained is None:
            return inference
        return replace(inference, views=Views(trained.image_shape, most if count is None else count))

    def objective_note(self, inference: Inference) -> str | None:
        """A line for the person where tasks are looked for by an objective that the masks were not trained for.

        Under a superposition the entropy says little about sparse masks; single masks can be told by either objective.
        """
        method = inference.chosen(self.model, self.matrix.names, self.extras).method
        if self.model.objective != "G" or inference.objective != "H" or method in ("exhaustive", "pairs", "prototypes"):
            return None
        return f"objective H: this run's masks were trained for G; by H {method} finds few tasks, exhaustive finds them"


def open_run(
    folder: str | Path, device: str = "cpu", *, model: MaskedModel | None = None, immutable: bool = False
) -> tuple[RunRecord, MaskedModel, MaskBank]:
    """A run's record, its network, and its bank open for reading; the caller closes it. Masks are not read yet.

    Args:
        folder: The run's folder. Training may go on in it.
        device: "auto", "cpu" or "cuda"; a `model` stays where it is.
        model: The network of a run that was made in Python; by default the one that the run's record names.
        immutable: Read the bank as it lies there, as `MaskBank.open` does, because nobody writes to it.

    Raises:
        RunError: A folder without a run, masks of another network, or a model that is not the run's.
    """
    folder = path_of("folder", folder)
    record, where = RunRecord.read(folder), pick_device(device)
    if not bank_path(folder).exists():
        raise RunError(f"{folder}: expected masks in masks.bank, found no such file; no task was finished")
    if model is not None:
        check_model(model)
        check_own_network(record, model)
    bank = _bank_of(folder, model, immutable)
    try:
        if model is None:
            record.check_spec(bank, network_spec(record))  # before there is memory for a network of these sizes
            model = make_network(record, where)
        record.check_bank(bank, model)
    except BaseException:
        bank.close()
        raise
    return record, model, bank


def load_run(
    folder: str | Path,
    device: str = "auto",
    *,
    model: MaskedModel | None = None,
    stream: TaskStream | None = None,
    immutable: bool = False,
) -> LoadedRun:
    """Load a run's network and masks; these from the index that lies beside the bank, if there is one.

    Args:
        folder: The run's folder.
        device: "auto", "cpu" or "cuda"; a `model` stays where it is.
        model: The network of a run that was made in Python; by default the one that the run's record names.
        stream: The data of a run that was made in Python; by default the stream that the record names.
        immutable: Read the bank as it lies there, as `MaskBank.open` does, because nobody writes to it.

    Raises:
        RunError: A folder without a run, a run without a finished task, masks of another network, or a model or stream
            that is not the run's.
        DeviceError: The device is not there.
        StaleIndexError: There is an index beside the bank, which changed since.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import load_run, run_config, train_run
        >>> config = run_config("permuted-digits", tasks=2, outputs=40, batches=10, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     _ = train_run(config, Path(folder))
        ...     run = load_run(Path(folder), "cpu")
        >>> run.matrix.names
        ('task-0', 'task-1')
        >>> images = run.stream()[1].test.images(slice(0, 5))
        >>> tuple(run.model(images, run.matrix[1]).shape)  # logits under the second task's mask
        (5, 40)
    """
    folder = path_of("folder", folder)
    if model is not None:
        check_model(model)
    if stream is not None:
        check_stream(stream)
    record = RunRecord.read(folder)
    if not bank_path(folder).exists():
        raise RunError(f"{folder}: expected masks in masks.bank, found no such file; no task was finished")
    where = pick_device(device)
    if model is not None:
        check_own_network(record, model)
    if stream is not None:
        check_own_data(record, stream)
    with _bank_of(folder, model, immutable) as bank:
        if model is None:
            record.check_spec(bank, network_spec(record))  # before there is memory for a network of these sizes
            model = make_network(record, where)
        record.check_bank(bank, model)
        matrix = index_of(bank)
        extras = task_extras(bank, model)
        seen = None if record.config.task_identity else _seen(bank, record)
    if not len(matrix):
        raise RunError(f"{bank_path(folder)}: expected at least one mask, found none")
    return LoadedRun(folder, record, model, matrix, extras, seen, stream)


def _bank_of(folder: Path, model: MaskedModel | None, immutable: bool) -> MaskBank:
    """A run's bank; with kept weights, masks that were coded against them can be read as well."""
    backbone = None if model is None else model.coding_backbone()
    return MaskBank.open(bank_path(folder), immutable=immutable, backbone=backbone)


def check_stream(stream: object) -> None:
    """ArgumentTypeError for what is no stream; it says how to get one."""
    hints = {"str": "open_stream(name) opens one", "list": "TaskStream.from_arrays(...) makes one of arrays"}
    expect("stream", stream, TaskStream, "a TaskStream", **hints)


def _seen(bank: MaskBank, record: RunRecord) -> int:
    """How many tasks had come by when the last mask was put away."""
    batches: list[Any] = [info.meta.get("put_away_at") for info in bank.infos()]
    if not all(type(each) is int and each >= 0 for each in batches):
        raise RunError(f"{bank.path}: expected masks of a run without task identity, found others")
    return -(-max(batches, default=0) // max(1, record.config.batches))
