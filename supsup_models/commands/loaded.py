"""A finished run, loaded for use: its network, its masks and its stream."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    model = make_network(record, device)
    with MaskBank.open(bank_path(folder)) as bank:
        check_bank(bank, model)
        matrix = bank.matrix()
    if not len(matrix):
        raise RunError(f"{bank_path(folder)}: expected at least one mask, found none")
    return LoadedRun(record, model, matrix)


def bank_meta(model: MaskedNetwork) -> dict[str, Any]:
    """What a run's bank says about its network: with this and the masks, the model is whole."""
    return {
        "model": model.architecture.name,
        "inputs": model.inputs,
        "outputs": model.outputs,
        "classes": model.classes,
        "weight_gain": model.weight_gain,
        "seed": model.seed,
    }


def check_bank(bank: MaskBank, model: MaskedNetwork) -> None:
    """RunError unless a bank's masks are of this network, seed included."""
    if bank.spec != model.spec:
        raise RunError(f"{bank.path}: expected masks of {model.spec!r}, found {bank.spec!r}")
    expected = bank_meta(model)
    wrong = [f"{name} {bank.meta.get(name)!r} (not {expected[name]!r})" for name in expected
             if bank.meta.get(name) != expected[name]]  # fmt: skip
    if wrong:
        raise RunError(f"{bank.path}: expected the masks of this run's network, found those of {', '.join(wrong)}")


def check_same_stream(record: RunRecord, stream: TaskStream) -> None:
    """RunError unless a stream is the one in the record, data included."""
    found = stream.to_json()
    wrong = [name for name in found if record.stream.get(name) != found[name]]
    if wrong:
        raise RunError(f"stream {stream.name}: expected the data that the run was trained on, found another {wrong[0]}")
