"""How sure a task guess is, on a scale that means something, and when it is "none of these tasks".

The statistic is the entropy of an image under the mask that was chosen for it. What it looks like on images of a mask's
own task is remembered as a few quantiles, taken from held-out images without their labels. A guess's **confidence** is
then a p-value: the fraction of own images at least as uncertain as this one (Vovk et al., "Algorithmic Learning in a
Random World", 2005: conformal prediction). For images of known tasks whose mask was found it is uniform in (0, 1], so
that refusing all below `level` refuses that fraction of them, and no more, whatever the network's own idea of its
certainty. How many images of other tasks are refused is for each network to show; `refused` counts them.

For a batch that shares one guess the statistic is the mean over its images, compared with means of as many draws.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.files import read_json, typed, write_json
from maskstore.philox import Role, random_uint32
from supsup_models.errors import InferenceError, RunError
from supsup_models.inference.labelling import NO_EXTRAS, run_each
from supsup_models.inference.objectives import entropy
from supsup_models.networks import MaskedModel, TaskExtras

LEVEL = 0.01  # of known tasks' images, refused by default
_VALUES = 128  # kept of each mask: enough to tell p = 0.01
_DRAWS = 1024  # means drawn to judge a batch's mean
_FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """Entropies of own images under each mask, ascending, by the mask's name."""

    values: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        for name, values in self.values.items():
            if not values or not np.isfinite(values).all() or list(values) != sorted(values):
                raise InferenceError(f"calibration of {name!r}: expected finite ascending values, found others or none")

    @classmethod
    def fit(
        cls,
        model: MaskedModel,
        matrix: MaskMatrix,
        images: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
        extras: TaskExtras = NO_EXTRAS,
    ) -> Self:
        """From unlabelled images `(n, inputs)` of each mask's own task, by the mask's name; at most 128 values each.

        Pairs of a name and images are taken one at a time, so that not all tasks' images need be in memory. `extras`
        are the masks' normalisation statistics, by name.
        """
        values = {}
        for name, own in images.items() if isinstance(images, Mapping) else images:
            rows = np.full(len(own), matrix.index(name))
            found = np.sort(image_entropies(model, matrix, own, rows, extras))
            kept = found if len(found) <= _VALUES else np.quantile(found, (np.arange(_VALUES) + 0.5) / _VALUES)
            values[name] = tuple(round(float(value), 5) for value in kept)
        return cls(values)

    def confidence(
        self, model: MaskedModel, matrix: MaskMatrix, images: Tensor, task: int, extras: TaskExtras = NO_EXTRAS
    ) -> float:
        """The confidence that images `(b, inputs)`, all of one task, are of the task of a row of the matrix.

        Raises:
            InferenceError: The mask was not calibrated.
        """
        found = image_entropies(model, matrix, images, np.full(len(images), task), extras)
        return _p_value(_means(self._of(matrix, task), len(images)), float(found.mean()))

    def confidence_of_each(
        self,
        model: MaskedModel,
        matrix: MaskMatrix,
        images: Tensor,
        tasks: NDArray[np.int64],
        extras: TaskExtras = NO_EXTRAS,
    ) -> NDArray[np.float32]:
        """The confidence `(b,)` of each image `(b, inputs)` in the task of its own row of the matrix, `tasks` `(b,)`.

        Raises:
            InferenceError: A mask was not calibrated.
        """
        found = image_entropies(model, matrix, images, tasks, extras)
        result = np.empty(len(images), dtype=np.float32)
        for row in np.unique(tasks):
            own = self._of(matrix, int(row))
            result[tasks == row] = [_p_value(own, float(value)) for value in found[tasks == row]]
        return result

    def write(self, path: Path) -> None:
        """Replace the JSON file at `path`, whole or not at all; MaskStoreError for a place that cannot be written."""
        write_json(path, {"format": _FORMAT, "values": dict(self.values)}, indent=None)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A calibration that was written; RunError for anything else, FileNotFoundError for nothing."""
        return read_json(path, "a calibration", cls.from_json, RunError)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From what `write` wrote; KeyError, TypeError or ValueError for anything else."""
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}, not {_FORMAT}")
        return cls(typed(Mapping[str, tuple[float, ...]], content["values"], "values"))

    def covers(self, names: Iterable[str]) -> bool:
        """Whether there are values for all masks of these names."""
        return self.values.keys() >= set(names)

    def _of(self, matrix: MaskMatrix, row: int) -> NDArray[np.float64]:
        name = matrix.names[row]
        if name not in self.values:
            raise InferenceError(f"calibration: expected values for mask {name!r}, found none")
        return np.asarray(self.values[name])


def image_entropies(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Tensor,
    rows: NDArray[np.int64],
    extras: TaskExtras = NO_EXTRAS,
) -> NDArray[np.float64]:
    """Entropy over all outputs, in nats, of each image `(b, inputs)` under the mask of its row `(b,)`; `(b,)`."""
    return entropy(run_each(model, matrix, images, rows, extras)).double().cpu().numpy()


def refused(confidence: float | NDArray[np.float32], level: float = LEVEL) -> bool | NDArray[np.bool_]:
    """Whether the answer is "none of these tasks": confidence below the level."""
    return confidence < level


def _p_value(own: NDArray[np.float64], found: float) -> float:
    return float((1 + (own >= found).sum()) / (1 + len(own)))


def _means(own: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Means of `images` draws with replacement, `(_DRAWS,)`; the same draws every time."""
    if images == 1:
        return own
    drawn = random_uint32(0, Role.SAMPLE, _DRAWS * images).reshape(_DRAWS, images) % len(own)
    return np.asarray(own[drawn].mean(axis=1))
