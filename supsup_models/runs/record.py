"""A run's folder: `masks.bank`, the finished tasks' masks, and `run.json`, the record of how they were made.

`calibration.json`, written when all tasks are finished, says how sure to be of a guess; nothing else needs it.

The bank is the truth about which tasks are finished; the record repeats their figures for people and for other tools.
It is replaced atomically, so a reader never sees half of one. Imports no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, get_args

from maskstore.bank import side_files
from maskstore.files import replacing
from supsup_models.errors import RunError

FORMAT = 1
_LARGEST = 3e38  # that float32 holds


@dataclass(frozen=True)
class RunConfig:
    """The arguments that make a run what it is; two runs with the same ones have the same masks.

    Without `task_identity` (scenario NNs) a mask is not a task's: masks are allocated as the data calls for them.

    `mask`, `weights`, `density` and `sparsity` are those of `convert`; threshold masks have the last two only with a
    recipe of sparse masks, whose `rate_weight` is given or, if None, the recipe's own. With `target_bits`, bits per
    parameter, training finds the density.
    With `transfer`, a task's scores start from the mean of the masks before it.
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
class RunRecord:
    """What `run.json` holds.

    `network` are the sizes of the network, `inputs`, `outputs`, `classes`, `weight_gain`, the `densities` of the layers
    of one with sparse masks, and of a converted one the `image_shape`; `stream` is the stream's own record; `pixels`
    are the scale and shift that take a uint8 pixel to the network's input, one of each for all pixels or a list with
    one for each channel; `tasks` one dict of figures for each finished task, with the density of each layer.
    """

    config: RunConfig
    network: Mapping[str, Any]
    stream: Mapping[str, Any]
    pixels: Mapping[str, float | list[float]]
    versions: Mapping[str, str]
    device: str
    tasks: tuple[Mapping[str, Any], ...] = ()

    def write(self, folder: Path) -> None:
        """Replace `folder/run.json`, whole or not at all; MaskStoreError for a place that cannot be written."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2, allow_nan=False) + "\n"
        with replacing(record_path(folder), overwrite=True) as scratch:
            scratch.write_text(text)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a run; RunError if there is none, or it is not one that this version writes."""
        path = record_path(folder)
        try:
            content = json.loads(path.read_text())
            if content["format"] != FORMAT:
                raise RunError(f"{path}: expected a run record of format {FORMAT}, found format {content['format']}")
            values = {field.name: content[field.name] for field in fields(cls)}
            _check_kinds(content)
            return cls(**{**values, "config": RunConfig(**content["config"]), "tasks": tuple(content["tasks"])})
        except (FileNotFoundError, NotADirectoryError):
            found = "no run.json in it" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
            raise RunError(f"{folder}: expected the folder of a run made by `supsup train`, found {found}") from None
        except OSError as error:
            raise RunError(f"{path}: expected a run record, found no such file to read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, RunError):
                raise
            raise RunError(f"{path}: expected a run record, found something else ({error})") from error


def _check_kinds(content: Mapping[str, Any]) -> None:
    """TypeError unless the values that others rely on are of their kinds."""
    for field in fields(RunConfig):
        if field.name not in content["config"] and field.default is not MISSING:
            continue  # written before there was such an argument
        value = content["config"][field.name]
        if type(value) not in (get_args(field.type) or (field.type,)):
            raise TypeError(f"{field.name}: expected {field.type}, found {value!r:.40}")
    network: dict[str, type] = {"inputs": int, "outputs": int, "classes": int, "weight_gain": float}
    listed: dict[str, type] = {"image_shape": int, "densities": float}
    network |= {name: kind for name, kind in listed.items() if name in content["network"]}
    for part, expected in (("network", network), ("pixels", {"scale": float, "shift": float})):
        if not isinstance(content[part], Mapping) or set(content[part]) != set(expected):
            raise TypeError(f"{part}: expected {', '.join(expected)}, found {content[part]!r:.60}")
        for name, kind in expected.items():
            value = content[part][name]
            many = isinstance(value, list) and (name in listed or part == "pixels")
            numbers = value if many else [value]
            if many < (name in listed) or not numbers or any(type(number) not in (kind, int) for number in numbers):
                expected_kind = f"list of {kind.__name__}" if name in listed else kind.__name__
                raise TypeError(f"{part}.{name}: expected {expected_kind}, found {value!r:.40}")
            if not all(abs(number) <= _LARGEST for number in numbers):
                raise ValueError(f"{part}.{name}: expected finite numbers, found {value!r:.40}")
    tasks = content["tasks"]
    if not isinstance(content["stream"], Mapping) or not all(isinstance(task, Mapping) for task in tasks):
        raise TypeError("stream, tasks: expected objects, found others")
    names = (content["device"], *(task["name"] for task in tasks if "name" in task))
    objects = (content["versions"], *(task["densities"] for task in tasks if "densities" in task))
    if not all(isinstance(name, str) for name in names) or not all(isinstance(each, Mapping) for each in objects):
        raise TypeError("device, tasks' names: expected strings; versions, densities: expected objects; found others")


def record_path(folder: Path) -> Path:
    """Where a run's record lies."""
    return folder / "run.json"


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
