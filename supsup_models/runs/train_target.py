"""Training to a target size: the densities at which a run's masks take the target's bits."""

import json
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Self

import torch

from maskstore.files import read_json, typed, write_json
from supsup_models._progress import Reporting
from supsup_models.data import TaskStream
from supsup_models.errors import NetworkError, RunError
from supsup_models.runs.config import make_network, priced
from supsup_models.runs.record import Clock, RunRecord, trials_path
from supsup_models.training import Recipe, coded_bits, find_density, train_task

_PROBE = 1e-6  # a density at which no layer meets its cap
_FORMAT = 1


def meet_target(
    record: RunRecord,
    stream: TaskStream,
    recipe: Recipe,
    device: torch.device,
    folder: Path,
    clock: Clock,
    reporter: Reporting,
) -> RunRecord:
    """The record with the densities at which the first task's mask takes the target's bits, written to `folder`.

    Each trial is on the disk when it is done, until the search has ended: one that was interrupted goes on with them.

    Raises RunError for trials of another search there, NetworkError for a target that no density meets.
    """
    assert recipe.sparse is not None  # `run_config` says so to whoever asks for another
    target, sparse, task = record.config.target_bits, recipe.sparse, stream[0]
    assert target is not None
    shapes = make_network(record, device).spec.shapes
    trials = Trials.of(record, folder)

    def at(density: float) -> RunRecord:
        densities = replace(sparse, density=density).densities(shapes)
        return replace(record, network=replace(record.network, densities=densities))

    # every layer keeps one weight at least; shares are in proportion to the density where no layer meets its cap
    probed = zip(replace(sparse, density=_PROBE).densities(shapes), shapes.values(), strict=True)
    least = max(_PROBE / (share * prod(shape)) for share, shape in probed)
    with reporter("finding the density", 1) as report:

        def bits_at(density: float) -> float:
            known = density in trials.bits
            if not known:
                model = make_network(at(density), device)
                trained = train_task(model, task.train, recipe, task=task.index, steps=record.config.batches)
                trials.put(density, coded_bits(trained.mask, trained.prior))
            bits, when = trials.bits[density], ", tried earlier" if known else ""
            report.line(f"density {density:.4g}: {bits:.4g} bits per parameter (target {target:g}{when})")
            return bits

        try:
            found = at(find_density(target, bits_at, start=0.25 * target, most=0.5, least=least))
        except NetworkError:  # nothing is left to go on with
            trials.remove()
            raise
    found = replace(found, history=clock.now())
    found.write(folder)
    trials.remove()
    return found


@dataclass(frozen=True)
class Trials:
    """The trials of a search that has not ended, and the file they are kept in."""

    path: Path
    made_by: dict[str, Any]
    """All that a trial's bits follow from, but for the density: they do not depend on the target."""
    bits: dict[float, float] = field(default_factory=dict)
    """Bits per parameter by density."""

    @classmethod
    def of(cls, record: RunRecord, folder: Path) -> Self:
        """What a run's folder holds for this record; RunError for a damaged file, or for trials of another search."""
        path, made_by = trials_path(folder), _made_by(record)
        if not path.exists():
            return cls(path, made_by)

        def read(content: Any) -> tuple[list[str], dict[float, float]]:
            if content["format"] != _FORMAT:
                raise ValueError(f"expected format {_FORMAT}, found {content['format']}")
            others = [
                f"other {name}" if isinstance(value, dict) else f"{name} {value} (not {content['made_by'][name]})"
                for name, value in made_by.items()
                if content["made_by"][name] != value
            ]
            trials = dict(typed(tuple[tuple[float, ...], ...], content["trials"], "trials"))
            if not all(0 < density <= 1 and bits > 0 for density, bits in trials.items()):
                raise ValueError("expected densities in (0, 1] and positive bits, found others")
            return others, trials

        what = "trials of a search for a density"
        others, bits = read_json(path, what, read, lambda text: RunError(f"{text}; delete it to search anew"))
        if others:
            raise RunError(
                f"{path}: expected the arguments, data and versions that these trials were made with, found "
                f"{', '.join(others)}; delete it to search anew"
            )
        return cls(path, made_by, bits)

    def put(self, density: float, bits: float) -> None:
        """Add a trial; it is on the disk when this returns."""
        self.bits[density] = bits
        write_json(self.path, {"format": _FORMAT, "made_by": self.made_by, "trials": list(self.bits.items())})

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)


def _made_by(record: RunRecord) -> dict[str, Any]:
    config, stream = asdict(priced(record.config)), dict(record.stream)
    del config["tasks"], config["target_bits"], stream["tasks"]  # the first task is the same however many follow
    made_by = {**config, "data": stream, "versions": dict(record.versions), "device": record.device}
    return dict(json.loads(json.dumps(made_by)))  # as it reads back
