"""A run's folder: `masks.bank`, the finished tasks' masks, and `run.json`, the record of how they were made.

`calibration.json`, written when all tasks are finished, says how sure to be of a guess; nothing else needs it.

The bank is the truth about which tasks are finished; the record repeats their figures for people and for other tools.
It is replaced atomically, so a reader never sees half of one. Imports no torch.
"""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

from maskstore import MaskBank, MaskSpec
from maskstore.bank import side_files
from maskstore.files import read_json, typed, write_json
from supsup_models.errors import RunError, ShardError

if TYPE_CHECKING:
    from supsup_models.data import TaskStream
    from supsup_models.networks import MaskedModel

FORMAT = 1
_CPU_INFO = Path("/proc/cpuinfo")
_OPTIONAL = ("densities", "image_shape", "mask", "weights")
"""What a bank says of some networks only."""


@dataclass(frozen=True)
class RunConfig:
    """The arguments that make a run what it is.

    Weights, initial scores, batches and tasks follow from them, bit for bit, everywhere. Training rounds as the
    processor and torch do: two runs with the same arguments have the same masks on one kind of processor with the same
    versions, and masks of nearly the same accuracy elsewhere.

    `run_config` makes one, fills in the defaults that follow from other arguments, and refuses what does not go
    together.

    Attributes:
        stream: Name of the stream of tasks, such as "permuted-mnist".
        tasks: Number of tasks.
        model: Name of the network.
        outputs: Outputs of the network, superfluous ones included.
        batches: Training batches for each task.
        recipe: Name of the training recipe.
        seed: Of weights, scores, pixels and batches.
        task_identity: False for scenario NNs: a mask is not a task's, and masks are allocated as the data calls for
            them.
        mask: How scores become a mask, "threshold" or "edge-popup".
        weights: How the frozen weights are made, "signed-constant" or "kaiming".
        density: Share of the weights that a sparse or an edge-popup mask keeps, in (0, 1].
        sparsity: How the layers share that out.
        transfer: Whether a task's scores start from the mean of the masks before it.
        rate_weight: Price of a coded bit, in nats of loss; None for the recipe's own.
        target_bits: Bits per parameter that the first task's mask may take; training finds the density.

    Examples:
        >>> from supsup_models import run_config
        >>> config = run_config("permuted-digits", tasks=3)
        >>> config.model, config.recipe, config.density
        ('lenet-300-100', 'default', 0.05)
    """

    stream: str
    tasks: int
    model: str
    outputs: int
    batches: int
    recipe: str
    seed: int
    task_identity: bool = True
    mask: str = "threshold"
    weights: str = "signed-constant"
    density: float | None = None
    sparsity: str | None = None
    transfer: bool = False
    rate_weight: float | None = None
    target_bits: float | None = None

    def difference(self, other: "RunConfig") -> str:
        """One phrase that says in what another configuration differs, or nothing."""
        mine, theirs = asdict(self), asdict(other)
        return ", ".join(f"{name} {mine[name]} (not {theirs[name]})" for name in mine if mine[name] != theirs[name])


@dataclass(frozen=True)
class Shard:
    """A part of a run: of all its tasks those of number `index`, `index + count`, `index + 2 count`, ...

    Attributes:
        index: Which part, from 0.
        count: How many parts there are.

    Raises:
        ShardError: For an index that is not below the count.

    Examples:
        >>> from supsup_models.runs import Shard
        >>> str(Shard.parse("1/3")), list(range(8)[Shard(1, 3).slice])
        ('1/3', [1, 4, 7])
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ShardError(f"shard: expected I/N with 0 <= I < N, such as 0/3, found {self}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def slice(self) -> slice:
        """What takes the part's tasks out of a stream."""
        return slice(self.index, None, self.count)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard of a text such as "0/3"; ShardError for another text."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None:
            raise ShardError(f"shard: expected I/N with 0 <= I < N, such as 0/3, found {text!r:.40}")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class NetworkSizes:
    """The sizes of a run's network, and the scale of its weights."""

    inputs: int
    outputs: int
    classes: int
    weight_gain: float
    densities: tuple[float, ...] | None = None
    """Of each layer, for sparse masks."""
    image_shape: tuple[int, ...] | None = None
    """Of a converted network's images, such as `(channels, height, width)`; None for a `MaskedNetwork`."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without what does not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Pixels:
    """What takes a uint8 pixel to the network's input, `pixel * scale + shift`: one number, or one for each channel."""

    scale: float | tuple[float, ...]
    shift: float | tuple[float, ...]

    def __post_init__(self) -> None:
        if 0.0 in (self.scale if isinstance(self.scale, tuple) else (self.scale,)):
            raise ValueError("pixels.scale: expected a factor, found 0")


@dataclass(frozen=True)
class ShownViews:
    """The views of an image that masks were trained with: see `supsup_models.Views`."""

    image_shape: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Own:
    """What of a run was given in Python, so that no name stands for it: its caller must give it again.

    Attributes:
        network: The SHA-256 of the network's weights, parameters and sizes; None where its name says all.
        recipe: The recipe; None for one of `RECIPES`.
        data: The SHA-256 of each task's labels and of a sample of its images; None for a stream of `open_stream`.
        answers: A few logits of the full network, which tell its code; None where its name says all, and where they
            are not finite or differ from call to call.
    """

    network: str | None = None
    recipe: Mapping[str, Any] | None = None
    data: Mapping[str, str] | None = None
    answers: tuple[float, ...] | None = None


@dataclass(frozen=True)
class History:
    """When, for how long and on what a run was trained. It says nothing of the masks: two runs may differ in it alone.

    Attributes:
        started: When training began, in UTC, as ISO 8601 has it.
        changed: When the last mask was written.
        seconds: Wall-clock time of training, judging and storing, over all calls.
        processors: The processors that it was trained on, the first one first.
        cores: How many cores the latest of them had.
        system: The operating system and the machine's architecture.
    """

    started: str
    changed: str
    seconds: float
    processors: tuple[str, ...]
    cores: int
    system: str


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` holds.

    `stream` is the stream's own record. `tasks` has the figures of each finished task, the density of each layer and
    the curve of its training among them. `own` is what a run made by `Run.create` has from its caller. `views` are
    None where masks saw each image only as it is. `shard` is None for a whole run. `history` says when and on what the
    run was trained. A record of an earlier version has none; records that differ in it alone are equal.
    """

    config: RunConfig
    network: NetworkSizes
    stream: Mapping[str, Any]
    pixels: Pixels
    versions: Mapping[str, str]
    device: str
    tasks: tuple[Mapping[str, Any], ...] = ()
    own: Own | None = None
    views: ShownViews | None = None
    shard: Shard | None = None
    history: History | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for task in self.tasks:
            if not isinstance(task.get("name", ""), str) or not isinstance(task.get("densities", {}), Mapping):
                raise TypeError(f"tasks: expected a name and densities by layer, found {dict(task)!r:.60}")

    def write(self, folder: Path) -> None:
        """Replace `folder/run.json`, whole or not at all; MaskStoreError for a place that cannot be written."""
        write_json(record_path(folder), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; the keys are part of the format."""
        content = {"format": FORMAT, **asdict(self), "network": self.network.to_json()}
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The record that `to_json` gave; KeyError, TypeError or ValueError for anything else."""
        if content["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, found {content['format']}")
        needed = [each.name for each in fields(cls) if each.default is MISSING or each.name in content]
        record: Self = typed(cls, {name: content[name] for name in needed}, "run")
        return record

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a run; RunError if there is none, or it is not one that this version writes."""
        try:
            return read_json(record_path(folder), "a run record", cls.from_json, RunError)
        except (FileNotFoundError, NotADirectoryError):
            found = "no run.json in it" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
            if several := [each.name for each in seed_folders(folder).values()]:
                found = f"runs of several seeds; name one of {', '.join(several[:4])}{', …' if several[4:] else ''}"
            raise RunError(f"{folder}: expected the folder of a run made by `train_run`, found {found}") from None

    def bank_meta(self, model: "MaskedModel") -> dict[str, Any]:
        """What the run's bank says about its network: with this and the masks, the model is whole."""
        return {"model": self.config.model, **model.bank_meta()}

    def check_bank(self, bank: MaskBank, model: "MaskedModel") -> None:
        """RunError unless a bank's masks are of the run's network, seed included."""
        self.check_spec(bank, model.spec)
        expected = self.bank_meta(model)
        # a bank of an earlier version does not say which kept weights its masks are on; the record has their hash
        # what only the bank says counts as well: masks of densities are of other weights than those without
        wrong = [
            f"{name} {bank.meta.get(name)!r} (not {expected.get(name)!r})"
            for name in dict.fromkeys((*expected, *_OPTIONAL))
            if bank.meta.get(name) != expected.get(name) and (name != "backbone" or name in bank.meta)
        ]
        if wrong:
            raise RunError(f"{bank.path}: expected the masks of this run's network, found those of {', '.join(wrong)}")

    @staticmethod
    def check_spec(bank: MaskBank, spec: MaskSpec) -> None:
        """RunError unless a bank's masks have these layers."""
        if bank.spec != spec:
            raise RunError(f"{bank.path}: expected masks of {spec!r}, found {bank.spec!r}")

    def check_stream(self, stream: "TaskStream") -> None:
        """RunError unless a stream has the data in the record; it may have another number of tasks."""
        found = stream.to_json()
        wrong = [name for name in found if name != "tasks" and self.stream.get(name) != found[name]]
        if wrong:
            differs = f"{wrong[0]} {found[wrong[0]]!r:.40} (not {self.stream.get(wrong[0])!r:.40})"
            hint = ""
            if wrong == ["classes"] and found.get("data_set") is None:
                hint = "; where later tasks have more classes, make the stream with their number from the start: "
                hint += f"`classes={found['classes']}`"
            raise RunError(
                f"stream {stream.name}: expected the data that the run was trained on, found {differs}{hint}"
            )


class Clock:
    """Measures a call that trains; `now` is the history with this call added, up to this moment.

    Args:
        earlier: What earlier calls have left in the record, if there were any.
        accelerator: The name of the device that computes, where it is not the processor.
    """

    def __init__(self, earlier: History | None, accelerator: str | None = None) -> None:
        self._start = perf_counter()
        name = accelerator or processor()
        here = History(
            _time_now(), _time_now(), 0.0, (name,), os.cpu_count() or 1, f"{platform.system()} {platform.machine()}"
        )
        if earlier is not None:
            known = tuple(dict.fromkeys((*earlier.processors, name)))
            here = replace(here, started=earlier.started, seconds=earlier.seconds, processors=known)
        self._begun = here

    def also_on(self, name: str) -> None:
        """Another processor has had a share in the training."""
        self._begun = replace(self._begun, processors=tuple(dict.fromkeys((*self._begun.processors, name))))

    def now(self) -> History:
        """The history so far."""
        seconds = self._begun.seconds + perf_counter() - self._start
        return replace(self._begun, changed=_time_now(), seconds=round(seconds, 2))


def processor() -> str:
    """The name of this machine's processor, as far as the system tells it."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown"


def _time_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_path(folder: Path) -> Path:
    """Where a run's record lies."""
    return folder / "run.json"


def seed_folders(folder: Path) -> dict[int, Path]:
    """The runs of several seeds in a folder, by seed, ascending; none for the folder of a single run."""
    if record_path(folder).exists() or not folder.is_dir():
        return {}
    numbers = {each: each.name.removeprefix("seed-") for each in folder.glob("seed-*") if record_path(each).exists()}
    named = {int(text): each for each, text in numbers.items() if re.fullmatch("0|[1-9][0-9]{0,19}", text)}
    return dict(sorted(named.items()))


def bank_path(folder: Path) -> Path:
    """Where a run's masks lie."""
    return folder / "masks.bank"


def calibration_path(folder: Path) -> Path:
    """Where a finished run's calibration lies."""
    return folder / "calibration.json"


def trials_path(folder: Path) -> Path:
    """Where the trials of an unfinished search for a density lie."""
    return folder / "trials.json"


def remove_run(folder: Path) -> None:
    """Delete a run's masks and record, and what SQLite keeps beside the masks; nobody may be training there."""
    path = bank_path(folder)
    for each in (path, *side_files(path), record_path(folder), calibration_path(folder), trials_path(folder)):
        each.unlink(missing_ok=True)
