"""A finished run, loaded for use: its network, its masks and its stream."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from maskstore import MaskBank, MaskMatrix
from supsup_models._names import choose
from supsup_models.data import TaskStream, open_stream
from supsup_models.errors import RunError
from supsup_models.networks import ARCHITECTURES, RESNETS, MaskedModel, MaskedNetwork, TaskExtras
from supsup_models.networks.convert import MaskRule, WeightInit, convert
from supsup_models.runs.config import is_masked_network
from supsup_models.runs.record import RunRecord, bank_path

_OPTIONAL = ("densities", "image_shape", "mask", "weights")
"""What `bank_meta` says of some networks only."""


@dataclass(frozen=True)
class LoadedRun:
    """The network on its device, all masks of the bank, packed, and their normalisation statistics by name."""

    record: RunRecord
    model: MaskedModel
    matrix: MaskMatrix
    extras: TaskExtras = field(default_factory=dict)

    @property
    def masked_network(self) -> MaskedNetwork:
        """The network where it is one of threshold masks on linear layers; RunError for any other."""
        if not isinstance(self.model, MaskedNetwork):
            raise RunError(
                f"run of {self.record.config.model}: expected threshold masks on {' or '.join(ARCHITECTURES)}, "
                f"found {self.record.config.mask} masks on {self.record.config.weights} weights"
            )
        return self.model

    def stream(self, data: Path | None, download: bool = False) -> TaskStream:
        """The stream that the run was trained on; RunError if the data there is not the same."""
        config = self.record.config
        stream = open_stream(config.stream, tasks=config.tasks, seed=config.seed, data=data, download=download)
        check_same_stream(self.record, stream)
        return stream

    def objective_note(self, method: str, objective: str | None) -> str | None:
        """A line for the person where tasks are looked for by an objective that the masks were not trained for.

        Under a superposition the entropy says little about sparse masks; single masks can be told by either objective.
        """
        if self.model.objective != "G" or objective != "H" or method == "exhaustive":
            return None
        return f"objective H: this run's masks were trained for G; by H {method} finds few tasks, exhaustive finds them"


def make_network(record: RunRecord, device: torch.device) -> MaskedModel:
    """The network that a run's record describes. Raises what `MaskedNetwork` and `convert` raise.

    RunError for a record whose sizes are not those of its kind of network.
    """
    config, sizes = record.config, record.network
    if is_masked_network(config) == ("image_shape" in sizes):
        raise RunError(f"run record: expected sizes of {config.model} with {config.mask} masks, found {dict(sizes)}")
    if is_masked_network(config):
        return MaskedNetwork(config.model, seed=config.seed, **sizes).to(device)
    shape, outputs = tuple(sizes["image_shape"]), sizes["outputs"]
    if config.model in ARCHITECTURES:
        module: torch.nn.Module = ARCHITECTURES[config.model].module(sizes["inputs"], outputs)
    else:
        module = choose("model", config.model, RESNETS)(outputs, shape[0])
    converted = convert(
        module,
        mask=cast(MaskRule, config.mask),
        weights=cast(WeightInit, config.weights),
        seed=config.seed,
        weight_gain=sizes["weight_gain"],
        density=config.density,
        sparsity=config.sparsity or "uniform",
        image_shape=shape,
        classes=sizes["classes"],
    )
    return converted.to(device)


def load_run(folder: Path, device: torch.device) -> LoadedRun:
    """Load a run's network and masks. Raises RunError for a folder without a run or a run without finished tasks."""
    record = RunRecord.read(folder)
    if not bank_path(folder).exists():
        raise RunError(f"{folder}: expected masks in masks.bank, found no such file; no task was finished")
    model = make_network(record, device)
    with MaskBank.open(bank_path(folder)) as bank:
        check_bank(bank, model, record)
        matrix = bank.matrix()
        extras = task_extras(bank, model)
    if not len(matrix):
        raise RunError(f"{bank_path(folder)}: expected at least one mask, found none")
    return LoadedRun(record, model, matrix, extras)


def task_extras(bank: MaskBank, model: MaskedModel) -> TaskExtras:
    """The normalisation statistics of a bank's masks by name; nothing for a network without any."""
    return {name: bank.extras(name) for name in bank} if model.initial_statistics() else {}


def bank_meta(model: MaskedModel, record: RunRecord) -> dict[str, Any]:
    """What a run's bank says about its network: with this and the masks, the model is whole."""
    return {"model": record.config.model, **model.bank_meta()}


def check_bank(bank: MaskBank, model: MaskedModel, record: RunRecord) -> None:
    """RunError unless a bank's masks are of the network that the record describes, seed included."""
    if bank.spec != model.spec:
        raise RunError(f"{bank.path}: expected masks of {model.spec!r}, found {bank.spec!r}")
    expected = bank_meta(model, record)
    # what only the bank says of its network counts as well: masks of densities are of other weights than those without
    said = [name for name in _OPTIONAL if name in bank.meta and name not in expected]
    wrong = [f"{name} {bank.meta.get(name)!r} (not {expected.get(name)!r})" for name in (*expected, *said)
             if bank.meta.get(name) != expected.get(name)]  # fmt: skip
    if wrong:
        raise RunError(f"{bank.path}: expected the masks of this run's network, found those of {', '.join(wrong)}")


def check_same_stream(record: RunRecord, stream: TaskStream) -> None:
    """RunError unless a stream is the one in the record, data included; it may have another number of tasks."""
    found = stream.to_json()
    wrong = [name for name in found if name != "tasks" and record.stream.get(name) != found[name]]
    if wrong:
        raise RunError(f"stream {stream.name}: expected the data that the run was trained on, found another {wrong[0]}")
