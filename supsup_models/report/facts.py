"""What a run's folder says about itself, read without torch: its record, its masks, and where their bytes are.

The bank is the truth about which tasks are finished, so their figures are read from there; a run whose first task is
not done has no bank yet, and is a run all the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore import MaskBank, MaskSpec
from maskstore.bank import Account, account
from maskstore.codecs import Zstd, encode_mask, size_of
from maskstore.priors import Backbone, Uniform
from supsup_models.errors import RunError
from supsup_models.networks import mask_densities
from supsup_models.report.wording import finite, fraction
from supsup_models.runs import Curve, RunRecord, bank_path, seed_folders

_ZSTD_LEVEL = 19
_ZSTD_BYTES = 4 << 20  # packed bytes that the general coder is measured on: it is slow, and masks are much alike
_CSR_COLUMNS = 1 << 16
_OVERLAPPING = 40  # masks that are compared two by two
_OVERLAP_BYTES = 64 << 20  # of packed masks held for that


@dataclass(frozen=True)
class TaskFacts:
    """One finished task (NNs: one mask); figures that its metadata lacks are None."""

    name: str
    accuracy: float | None
    """Test accuracy under the task's own mask, a fraction."""
    loss: float | None
    seconds: float | None
    coded_bytes: int
    curve: Curve | None = None
    """The loss and the accuracy of batches in training, as the record has them."""


@dataclass(frozen=True)
class Alternative:
    """The same masks in another format."""

    name: str
    note: str
    bits_per_parameter: float


@dataclass(frozen=True)
class Overlap:
    """What masks have in common, two by two."""

    names: tuple[str, ...]
    shares: NDArray[np.float64]
    """Of the weights that one of two masks keeps, the share that both keep: `(masks, masks)`."""
    by_chance: float
    """The mean share of masks that are drawn with the same densities of layers."""


@dataclass(frozen=True)
class SeedFacts:
    """One of the runs of several seeds; figures that it lacks are None."""

    seed: int
    tasks: int
    accuracy: float | None
    """Mean test accuracy, each task under its own mask; None without task identity."""
    bits_per_parameter: float | None
    accuracies: tuple[float, ...] = ()
    """That of each task, in order; none without task identity."""


@dataclass(frozen=True)
class RunFacts:
    """A run, and of its masks all that the page shows."""

    name: str
    record: RunRecord
    finished: bool
    spec: MaskSpec | None
    """None before the first task is finished, as is `account`."""
    account: Account | None
    tasks: tuple[TaskFacts, ...]
    densities: NDArray[np.float64]
    """Fraction of ones by mask and layer, `(masks, layers)`."""
    alternatives: tuple[Alternative, ...]
    seeds: tuple[SeedFacts, ...] = ()
    """Of runs of several seeds: what each came to. All other facts are of the first of them."""
    overlap: Overlap | None = None
    """None where there are not two masks."""

    @property
    def task_identity(self) -> bool:
        """Whether each mask is a task's."""
        return self.record.config.task_identity

    @property
    def accuracies(self) -> list[float]:
        """The known accuracies of finished tasks, in order."""
        return [task.accuracy for task in self.tasks if task.accuracy is not None]

    @property
    def accuracy(self) -> float | None:
        """Mean test accuracy, each task under its own mask (GG); None without task identity or figures."""
        found = self.accuracies
        return float(np.mean(found)) if self.task_identity and found else None

    @property
    def bits_per_parameter(self) -> float | None:
        """Of the whole file, per parameter and task."""
        return None if self.account is None else self.account.per_parameter(8 * self.account.total_bytes)


def read_run(folder: Path, *, immutable: bool = False, backbone: Backbone | None = None) -> RunFacts:
    """Read a run, finished or not; of a folder with runs of several seeds the first, and what the others came to.

    An `immutable` bank is read as it lies there. Masks that were coded against kept weights need their `backbone`.
    Raises RunError for a folder without a run or with another network's masks, and maskstore's errors for a bank that
    cannot be read.
    """
    several = seed_folders(folder)
    if several:
        first = read_run(next(iter(several.values())), immutable=immutable)
        seeds = tuple(_seed_facts(each, immutable) for each in several.values())
        return replace(first, name=folder.resolve().name, seeds=seeds)
    record = RunRecord.read(folder)
    name = folder.resolve().name
    if not bank_path(folder).exists():
        return RunFacts(name, record, False, None, None, (), np.zeros((0, 0)), ())
    with MaskBank.open(bank_path(folder), immutable=immutable, backbone=backbone) as bank:
        _check_origin(bank, record)
        infos = bank.infos()
        curves = {task.get("name"): Curve.from_json(task.get("curve")) for task in record.tasks}
        tasks = tuple(
            TaskFacts(
                info.name,
                fraction(info.meta.get("accuracy")),
                finite(info.meta.get("loss")),
                finite(info.meta.get("seconds")),
                info.coded_bytes,
                curves.get(info.name),
            )
            for info in infos
        )
        known = account(bank)
        sample = _sample(len(infos), bank.spec)
        densities, zstd_bytes = _measure(bank, sample)
        overlap = _overlap(bank, [info.name for info in infos], densities)
    alternatives = _alternatives(known, bank.spec, zstd_bytes, len(sample)) if tasks else ()
    metas = [info.meta for info in infos]
    finished = _is_finished(record, metas)
    return RunFacts(name, record, finished, bank.spec, known, tasks, densities, alternatives, overlap=overlap)


def _overlap(bank: MaskBank, names: Sequence[str], densities: NDArray[np.float64]) -> Overlap | None:
    """Of as many masks as `_OVERLAPPING` and a bound on memory allow, evenly spaced."""
    count = min(len(names), _OVERLAPPING, _OVERLAP_BYTES // max(1, 8 * bank.spec.words))
    if count < 2 or not bank.spec.bits:
        return None
    rows = [row * len(names) // count for row in range(count)]
    words = np.stack([bank[names[row]].words for row in rows])
    kept = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    both = np.array([np.bitwise_count(words & each).sum(axis=1, dtype=np.int64) for each in words])
    either = kept + kept[:, None] - both
    sizes = np.array([layer.size for layer in bank.spec], dtype=np.float64)
    chosen = densities[rows]
    expected = (chosen * sizes) @ chosen.T
    off = ~np.eye(count, dtype=bool)
    by_chance = float((expected / np.maximum(1e-30, kept + kept[:, None] - expected))[off].mean())
    return Overlap(tuple(names[row] for row in rows), both / np.maximum(1, either), by_chance)


def _seed_facts(folder: Path, immutable: bool) -> SeedFacts:
    record, path = RunRecord.read(folder), bank_path(folder)
    if not path.exists():
        return SeedFacts(record.config.seed, 0, None, None)
    with MaskBank.open(path, immutable=immutable) as bank:
        _check_origin(bank, record)
        known = [accuracy for info in bank.infos() if (accuracy := fraction(info.meta.get("accuracy"))) is not None]
        tasks, weights = len(bank), bank.spec.bits
    mean = float(np.mean(known)) if known and record.config.task_identity else None
    rate = 8 * path.stat().st_size / (tasks * weights) if tasks else None
    return SeedFacts(record.config.seed, tasks, mean, rate, tuple(known) if record.config.task_identity else ())


def _check_origin(bank: MaskBank, record: RunRecord) -> None:
    expected = {"model": record.config.model, "seed": record.config.seed}
    found = {key: bank.meta.get(key) for key in expected}
    if found != expected:
        raise RunError(f"{bank.path}: expected the masks of {_pairs(expected)}, found those of {_pairs(found)}")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value!r:.40}" for key, value in values.items())


def _is_finished(record: RunRecord, metas: Sequence[dict[str, Any]]) -> bool:
    config = record.config
    if config.task_identity:
        return len(metas) >= config.tasks
    # without task identity the number of masks says nothing: the last one was put away when the stream ended
    latest = max((finite(meta.get("put_away_at")) or 0 for meta in metas), default=0)
    return latest >= config.tasks * config.batches


def _measure(bank: MaskBank, sample: set[int]) -> tuple[NDArray[np.float64], int]:
    """Densities `(masks, layers)`, and the bytes of the sampled masks as Zstandard packs them."""
    rows: list[list[float]] = []
    packed = 0
    for number, (_, mask) in enumerate(bank.masks()):
        rows.append(list(mask_densities(mask).values()))
        if number in sample:
            packed += size_of(encode_mask(Zstd(_ZSTD_LEVEL), mask, Uniform())[1])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(bank.spec)), packed


def _sample(masks: int, spec: MaskSpec) -> set[int]:
    """Rows of as many masks as Zstandard is tried on, evenly spaced."""
    count = min(masks, max(1, _ZSTD_BYTES // max(1, 8 * spec.words)))
    return {row * masks // count for row in range(count)}


def _alternatives(known: Account, spec: MaskSpec, zstd_bytes: int, sampled: int) -> tuple[Alternative, ...]:
    """What the same masks would take in formats that others use; none of them counts names or metadata."""
    if not spec.bits:
        return ()
    found = [Alternative("bit-packing", "one bit a weight, nothing else", 1.0)]
    zstd = 8 * zstd_bytes / (sampled * spec.bits)
    of = "all masks" if sampled == known.tasks else f"{sampled} of {known.tasks} masks"
    found.append(Alternative("zstd", f"level {_ZSTD_LEVEL} over the packed bits; measured on {of}", zstd))
    shapes = list(spec.shapes.values())
    if all(int(np.prod(shape[1:])) <= _CSR_COLUMNS for shape in shapes):
        ones = sum(layer.ones for layer in known.layers)
        rows = sum(shape[0] if shape else 1 for shape in shapes) * known.tasks
        rate = known.per_parameter(16 * ones + 32 * rows)
        assert rate is not None  # there are masks, and they have bits
        found.append(Alternative("CSR", "column indices of 16 bits, row ends of 32", rate))
    return tuple(found)
