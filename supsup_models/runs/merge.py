"""Shards of a run made one run again: the run that one process would have trained."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from maskstore import MaskBank
from maskstore.files import named_os_errors
from maskstore.interop import merge
from supsup_models._names import expect, path_of
from supsup_models.data import TaskStream
from supsup_models.errors import RunError, ShardError
from supsup_models.networks import MaskedModel
from supsup_models.runs.load import load_run
from supsup_models.runs.record import History, RunRecord, bank_path, seed_folders
from supsup_models.runs.train import calibrate, finished_tasks

_SAME = ("network", "stream", "pixels", "own", "views")
"""What the records of all shards of a run agree on, beside the configuration."""
_MAY_DIFFER = ("versions", "device")


@dataclass(frozen=True)
class MergedRun:
    """What `merge_runs` made.

    Attributes:
        records: The record of the run; of runs of several seeds one for each seed.
        notes: What the shards' records disagree on, a line each. The merged record has what the first shard says.
    """

    records: tuple[RunRecord, ...]
    notes: tuple[str, ...]


def merge_runs(
    runs: Iterable[str | Path],
    out: str | Path,
    *,
    model: MaskedModel | None = None,
    stream: TaskStream | None = None,
    data: Path | None = None,
    download: bool = False,
    device: str = "auto",
    immutable: bool = False,
) -> MergedRun:
    """Make one run of all shards of a run: masks, priors, extras, their order, and the record but for times.

    The coded masks are copied as they are. The calibration is made anew, which takes the data set: a mask's confidence
    depends on all other masks. `out` appears whole or not at all. `train_run` goes on with it, with more tasks too.

    Args:
        runs: The folders of all shards, in any order. Each may hold runs of several seeds.
        out: The folder of the new run; there must be none, or an empty one.
        model: The network of a run that was made in Python, as in `load_run`.
        stream: The data of a run that was made in Python.
        data: Folder with the data set's files; the usual places are searched without it.
        download: Fetch the data set if it is not found.
        device: "auto", "cpu" or "cuda"; where the calibration is computed.
        immutable: Read the shards' banks as they lie there, as `MaskBank.open` does, because nobody writes to them.

    Raises:
        ShardError: A shard is missing, comes twice, or is of another run.
        RunError: A folder holds no shard or an unfinished one, or `out` is taken.
        DataNotFoundError: The data set is not found.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import load_run, merge_runs, run_config, train_run
        >>> config = run_config("permuted-digits", tasks=3, outputs=40, batches=10, recipe="dense")
        >>> with TemporaryDirectory() as folder:
        ...     shards = [f"{folder}/shard-{index}" for index in range(2)]
        ...     for index, shard in enumerate(shards):
        ...         _ = train_run(config, shard, shard=f"{index}/2")
        ...     merged = merge_runs(shards, f"{folder}/run")
        ...     load_run(f"{folder}/run").matrix.names
        ('task-0', 'task-1', 'task-2')
        >>> merged.records[0].shard is None
        True
    """
    expect("runs", runs, Iterable, "a list of folders", str="[folder] is a list of one")
    folders, out = [path_of("runs", each) for each in runs] if not isinstance(runs, str) else [], path_of("out", out)
    if not folders:
        raise ShardError("runs: expected the folders of all shards, found none")
    seeds = [list(seed_folders(folder)) for folder in folders]
    if any(each != seeds[0] for each in seeds):
        odd = next(number for number, each in enumerate(seeds) if each != seeds[0])
        raise ShardError(
            f"{folders[odd]}: expected runs of the seeds of {folders[0]}, {_listed(seeds[0])}, found "
            f"{_listed(seeds[odd])}"
        )
    records, notes = [], list[str]()
    with _new_folder(out) as scratch:
        for name in [f"seed-{seed}" for seed in seeds[0]] or [""]:
            parts = [folder / name for folder in folders]
            known = {part: RunRecord.read(part) for part in parts}
            notes += [each for each in _check_shards(known) if each not in notes]
            parts.sort(key=lambda part: known[part].shard.index)  # type: ignore[union-attr]  # checked before
            first = load_run(parts[0], device, model=model, stream=stream, immutable=immutable)
            own_stream, target = first.stream(data, download), scratch / name
            target.mkdir(exist_ok=True)
            tasks = [_finished(part, known[part], first.model, own_stream, immutable) for part in parts]
            merge([bank_path(part) for part in parts], bank_path(target), sort=True, immutable=immutable)
            by_name = {task["name"]: task for part in tasks for task in part}
            with MaskBank.open(bank_path(target)) as bank:
                record = replace(
                    known[parts[0]],
                    shard=None,
                    tasks=tuple(by_name[name] for name in bank),
                    history=_joined([record.history for record in known.values() if record.history is not None]),
                )
                record.write(target)
                calibrate(target, first.model, own_stream.named(bank), bank, record)
            records.append(record)
    return MergedRun(tuple(records), tuple(notes))


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds[:8])) or "a single run"


def _check_shards(known: dict[Path, RunRecord]) -> list[str]:
    """ShardError unless these records are of all shards of one run; what they disagree on otherwise."""
    (first, expected), *others = known.items()
    if expected.shard is None:
        raise ShardError(f'{first}: expected a shard that was trained with `shard="I/N"`, found a whole run')
    for folder, record in others:
        if record.shard is None:
            raise ShardError(f'{folder}: expected a shard that was trained with `shard="I/N"`, found a whole run')
        differs = record.config.difference(expected.config)
        if record.shard.count != expected.shard.count:
            differs = f"shard {record.shard} (not one of {expected.shard.count})"
        wrong = differs or next((name for name in _SAME if getattr(record, name) != getattr(expected, name)), "")
        if wrong:
            raise ShardError(f"{folder}: expected a shard of the run of {first}, found another {wrong}")
    by_index: dict[int, Path] = {}
    for folder, record in known.items():
        assert record.shard is not None
        if (other := by_index.setdefault(record.shard.index, folder)) != folder:
            raise ShardError(f"{folder}: expected each shard once, found {record.shard} in {other} too")
    count = expected.shard.count
    missing = [index for index in range(count) if index not in by_index] if len(by_index) < count else []
    if missing:
        shown = ", ".join(f"{index}/{count}" for index in missing[:8]) + (", ..." if missing[8:] else "")
        raise ShardError(f"shards: expected all {count} of the run, found none for {shown}")
    return [
        f"{folder}: {name} {getattr(record, name)!r:.120} (not {getattr(expected, name)!r:.120})"
        for folder, record in others
        for name in _MAY_DIFFER
        if getattr(record, name) != getattr(expected, name)
    ]


def _finished(
    folder: Path, record: RunRecord, model: MaskedModel, stream: TaskStream, immutable: bool
) -> list[dict[str, object]]:
    """The figures of a shard's tasks; RunError unless all of them, and no others, are in its bank."""
    assert record.shard is not None
    if not bank_path(folder).exists():
        raise RunError(f"{folder}: expected masks in masks.bank, found no such file; no task was finished")
    with MaskBank.open(bank_path(folder), immutable=immutable, backbone=model.coding_backbone()) as bank:
        record.check_bank(bank, model)
        names, found = {task.name for task in stream[record.shard.slice]}, set(bank)
        if missing := sorted(names - found):
            raise RunError(
                f"{folder}: expected all {len(names)} tasks of shard {record.shard}, found no {missing[0]}; the "
                "command that trains the shard goes on with it"
            )
        if more := sorted(found - names):
            raise RunError(f"{folder}: expected the tasks of shard {record.shard} only, found {more[0]!r} too")
        return finished_tasks(bank, record)


def _joined(histories: Sequence[History]) -> History | None:
    """When, how long and on what all shards were trained."""
    if not histories:
        return None
    last = max(histories, key=lambda each: each.changed)
    return replace(
        last,
        started=min(each.started for each in histories),
        seconds=round(sum(each.seconds for each in histories), 2),
        processors=tuple(dict.fromkeys(name for each in histories for name in each.processors)),
    )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that gets the name `out` when the block ends, and is gone after an error; RunError if `out` is taken."""
    with named_os_errors(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out}: expected no folder, or an empty one, for the merged run, found one in use")
        out.parent.mkdir(parents=True, exist_ok=True)
        around = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".merging", dir=out.parent))
    try:
        made = around / "run"
        made.mkdir()
        yield made
        with named_os_errors(out):
            with suppress(FileNotFoundError):
                out.rmdir()  # an empty one; one that is in use by now stays, and is an error
            os.rename(made, out)
    finally:
        shutil.rmtree(around, ignore_errors=True)
