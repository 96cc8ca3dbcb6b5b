"""A finished run, loaded for use: its network, its masks and its stream."""

from dataclasses import dataclass
from pathlib import Path

import torch

from maskstore import MaskBank, MaskMatrix
from supsup_models.data.streams import TaskStream, open_stream
from supsup_models.errors import RunError
from supsup_models.networks import MaskedNetwork
from supsup_models.runs import RunRecord, bank_path


@dataclass(frozen=True)
class LoadedRun:
    """The network on its device, and all masks of the bank, packed."""

    record: RunRecord
    model: MaskedNetwork
    matrix: MaskMatrix

    def stream(self, data: Path | None, download: bool = False) -> TaskStream:
        """The stream that the run was trained on; RunError if the data there is not the same."""
        config = self.record.config
        stream = open_stream(config.stream, tasks=config.tasks, seed=config.seed, data=data, download=download)
        check_same_stream(self.record, stream)
        return stream


def make_network(record: RunRecord, device: torch.device) -> MaskedNetwork:
    """The network that a run's record describes."""
    return MaskedNetwork(record.config.model, seed=record.config.seed, **record.network).to(device)


def load_run(folder: Path, device: torch.device) -> LoadedRun:
    """Load a run's network and masks. Raises RunError for a folder without a run or a run without finished tasks."""
    record = RunRecord.read(folder)
    if not bank_path(folder).exists():
        raise RunError(f"{folder}: expected masks in masks.bank, found no such file; no task was finished")
    with MaskBank.open(bank_path(folder)) as bank:
        matrix = bank.matrix()
    model = make_network(record, device)
    if matrix.spec != model.spec:
        raise RunError(f"{bank_path(folder)}: expected masks of {model.spec!r}, found {matrix.spec!r}")
    if not len(matrix):
        raise RunError(f"{bank_path(folder)}: expected at least one mask, found none")
    return LoadedRun(record, model, matrix)


def check_same_stream(record: RunRecord, stream: TaskStream) -> None:
    """RunError unless a stream is the one in the record, data included."""
    found = stream.to_json()
    wrong = [name for name in found if record.stream.get(name) != found[name]]
    if wrong:
        raise RunError(f"stream {stream.name}: expected the data that the run was trained on, found another {wrong[0]}")
