"""Training for the scenario NNs: nobody says which task a batch is from.

A mask is on the disk when it is put away, together with the batch that was next; a call that goes on starts there. So
an interrupted run loses the batches since the last change of masks, and ends with the same masks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskstore import MaskBank
from maskstore.priors import SeededScores
from supsup_models._progress import Reporting
from supsup_models.continual import IdentityFreeLearner, KnownMask, PutAway
from supsup_models.data import TaskStream, batch_order
from supsup_models.networks import MaskedNetwork
from supsup_models.runs.record import Clock, RunConfig, RunRecord
from supsup_models.training import Recipe


def train_without_identity(
    model: MaskedNetwork,
    stream: TaskStream,
    recipe: Recipe,
    record: RunRecord,
    folder: Path,
    bank: MaskBank,
    clock: Clock,
    reporter: Reporting,
) -> tuple[RunRecord, int]:
    """Learn the stream, task after task, from where `bank` stopped; returns the record and the number of new masks."""
    total = len(stream) * record.config.batches
    known, start, allocated = _known_masks(bank)
    pending: list[str] = []  # names to drop; they go with the next mask that is kept, so that the bank has no half step

    def on_put_away(change: PutAway) -> None:
        pending.extend(change.dropped)
        if change.kept:
            _write(bank, change.kept, pending, change.batch, change.allocated, model.seed)
            pending.clear()
        replace(record, tasks=_figures(bank), history=clock.now()).write(folder)

    learner = IdentityFreeLearner(model, recipe, known=known, batch=start, allocated=allocated, on_put_away=on_put_away)
    with reporter("training", total) as report:
        for images, labels in _batches(stream, record.config, recipe.batch_size, start):
            before = learner.allocated
            learner.observe(images.to(model.device), labels.to(model.device))
            if learner.allocated > before:
                report.line(f"batch {learner.batch - 1} of {total}: mask number {learner.allocated} allocated")
            report.at(learner.batch)
        learner.finish()
    if pending:
        # A last mask that was merged away left no mark of where the stream ended.
        name = next(reversed(learner.known))
        _write(bank, {name: learner.known[name]}, pending, learner.batch, learner.allocated, model.seed)
    history = clock.now() if learner.batch > start or pending else record.history
    record = replace(record, tasks=_figures(bank), history=history)
    record.write(folder)
    return record, len(set(bank) - set(known))


def _batches(stream: TaskStream, config: RunConfig, batch_size: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels of the stream's batches from number `start`: `config.batches` of each task, one after another.

    This is the only place that knows where a task ends; what it gives does not say so.
    """
    for task in stream:
        first = task.index * config.batches
        if first + config.batches <= start:
            continue
        data = task.train
        order = batch_order(
            config.seed, task.index, images=len(data.labels), steps=config.batches, batch_size=batch_size
        )
        for rows in torch.from_numpy(order)[max(0, start - first) :]:
            yield data.images(rows), data.labels[rows]


def _known_masks(bank: MaskBank) -> tuple[dict[str, KnownMask], int, int]:
    """The masks of a run in the order they were put away, the batch it stopped at, and how many it had allocated."""
    infos = sorted(bank.infos(), key=lambda info: (info.meta["put_away_at"], info.meta["number"]))
    known = {
        info.name: KnownMask(bank[info.name], info.meta["number"], info.meta["batches"], info.meta["level"])
        for info in infos
    }
    latest: Mapping[str, Any] = infos[-1].meta if infos else {"put_away_at": 0, "allocated": 0}
    return known, latest["put_away_at"], latest["allocated"]


def _write(
    bank: MaskBank, masks: Mapping[str, KnownMask], dropped: list[str], batch: int, allocated: int, seed: int
) -> None:
    with bank.transaction():
        for name in dropped:
            if name in bank:
                bank.delete(name)
        for name, known in masks.items():
            meta = {
                "number": known.number,
                "batches": known.batches,
                "level": known.level,
                "density": known.mask.density,
                "put_away_at": batch,
                "allocated": allocated,
            }
            bank.put(name, known.mask, meta=meta, prior=SeededScores(seed=seed, task=known.number), overwrite=True)


def _figures(bank: MaskBank) -> tuple[dict[str, Any], ...]:
    return tuple({"name": info.name, **info.meta} for info in bank.infos())
