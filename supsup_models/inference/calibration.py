"""How sure a guess of the task is, and when the images are of none of the tasks.

The statistic is the entropy of an image under the mask that was chosen for it. A calibration remembers what it looks
like on images of each mask's own task, as a few quantiles. It takes them from held-out images and needs no labels. The
**confidence** of a guess is a p-value: the fraction of own images that are at least as uncertain as this one (Vovk et
al., "Algorithmic Learning in a Random World", 2005: conformal prediction).

For images of known tasks whose mask was found, the confidence is uniform in (0, 1]. To refuse all images below `level`
therefore refuses that fraction of them and no more, whatever the network's own idea of its certainty. How many images
of other tasks are refused depends on the network; `refused` says which.

For a batch that shares one guess, the statistic is the mean over its images, compared with means of as many draws.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.files import read_json, typed, write_json
from maskstore.philox import Role, random_uint32
from supsup_models._names import expect, found, number, path_of
from supsup_models.data import checked_images
from supsup_models.errors import ArgumentTypeError, InferenceError, RunError
from supsup_models.inference.given import check_masks
from supsup_models.inference.labelling import NO_EXTRAS, run_each
from supsup_models.networks import MaskedModel, TaskExtras, entropy

LEVEL = 0.01  # of known tasks' images, refused by default
_VALUES = 128  # kept of each mask: enough to tell p = 0.01
_DRAWS = 1024  # means drawn to judge a batch's mean
_FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """What images of each mask's own task look like, to judge the confidence of task guesses by.

    Attributes:
        values: By the mask's name, entropies of own images under it in nats, ascending; at most 128.

    Raises:
        InferenceError: Values are not finite, not ascending or none.

    Examples:
        Images of a task that no mask was trained for get a low confidence:

        >>> from maskstore import MaskMatrix
        >>> from supsup_models import Calibration, MaskedNetwork, Recipe, RMSProp, infer_task, open_stream, train_task
        >>> *known, stranger = open_stream("permuted-digits", tasks=3)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in known:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=50)
        ...     matrix.append(task.name, one.mask)
        >>> calibration = Calibration.fit(
        ...     model, matrix, ((task.name, task.test.images(slice(0, 180))) for task in known)
        ... )
        >>> for task in (known[1], stranger):
        ...     images = task.test.images(slice(180, 212))
        ...     guess = infer_task(model, matrix, images, calibration=calibration)
        ...     print(task.name, guess.confidence > 0.01)
        task-1 True
        task-2 False
    """

    values: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        expect("calibration", self.values, Mapping, "ascending entropies by the masks' names")
        for name, values in self.values.items():
            for value in expect(f"calibration of {name!r:.80}", values, (tuple, list), "ascending entropies"):
                number(f"calibration of {name!r:.80}", value)
            if not values or not np.isfinite(values).all() or list(values) != sorted(values):
                raise InferenceError(f"calibration of {name!r}: expected finite ascending values, found others or none")

    def __repr__(self) -> str:
        return f"Calibration(of {len(self.values)} masks)"

    @classmethod
    def fit(
        cls,
        model: MaskedModel,
        matrix: MaskMatrix,
        images: Mapping[str, Any] | Iterable[tuple[str, Any]],
        extras: TaskExtras = NO_EXTRAS,
    ) -> Self:
        """Calibrate masks on unlabelled images of their own tasks.

        Args:
            model: The network.
            matrix: Its masks.
            images: For each mask to calibrate, its name and held-out images `(n, inputs)`. Pairs are taken one at a
                time, so an iterable need not keep all images in memory.
            extras: The masks' normalisation statistics, by name.

        Raises:
            TaskNotFoundError: The matrix has no mask of a name.
            ShapeError, ImageValueError: Images that do not fit, as for `infer_task`.
        """
        kinds = isinstance(model, MaskedModel), isinstance(matrix, MaskMatrix), isinstance(extras, Mapping)
        if not all(kinds) or matrix.spec != model.spec:
            check_masks(model, matrix, extras)
        if not isinstance(images, Mapping | Iterable) or isinstance(images, Tensor | np.ndarray | str):
            raise ArgumentTypeError(
                f"images: expected images by the masks' names, or pairs of the two, found {found(images)}"
            )
        values = {}
        for pair in images.items() if isinstance(images, Mapping) else images:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ArgumentTypeError(f"images: expected pairs of a name and images, found {found(pair)}")
            name, own = pair
            checked = checked_images(own, model)
            rows = np.full(len(checked), matrix.index(name))
            entropies = np.sort(image_entropies(model, matrix, checked, rows, extras))
            kept = (
                entropies if len(entropies) <= _VALUES else np.quantile(entropies, (np.arange(_VALUES) + 0.5) / _VALUES)
            )
            values[name] = tuple(round(float(value), 5) for value in kept)
        return cls(values)

    def confidence(self, name: str, entropies: NDArray[np.float64]) -> float:
        """The confidence that images, all of one task, are of the task of a mask.

        Args:
            name: The mask's name.
            entropies: Those of the images under the mask in nats, `(b,)`.

        Raises:
            InferenceError: The mask was not calibrated.
        """
        return _p_value(_means(self._of(name), len(entropies)), float(entropies.mean()))

    def confidence_of_each(self, names: Sequence[str], entropies: NDArray[np.float64]) -> NDArray[np.float32]:
        """The confidence `(b,)` of each image in a task of its own, as `confidence` gives it for one image."""
        own = {name: self._of(name) for name in set(names)}
        found = [_p_value(own[name], value) for name, value in zip(names, entropies.tolist(), strict=True)]
        return np.array(found, dtype=np.float32)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, which replaces an earlier one whole or not at all.

        Raises:
            MaskStoreError: The file cannot be written.
        """
        write_json(path_of("path", path), {"format": _FORMAT, "values": dict(self.values)}, indent=None)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `write` has written.

        Raises:
            FileNotFoundError: There is no file.
            RunError: It cannot be read, or holds something else.
        """
        return read_json(path_of("path", path), "a calibration", cls._from_json, RunError)

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> Self:
        if content["format"] != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}, found {content['format']}")
        return cls(typed(Mapping[str, tuple[float, ...]], content["values"], "values"))

    def covers(self, names: Iterable[str]) -> bool:
        """Whether all masks of these names were calibrated."""
        return self.values.keys() >= set(names)

    def _of(self, name: str) -> NDArray[np.float64]:
        if name not in self.values:
            raise InferenceError(f"calibration: expected values for mask {name!r}, found none")
        return np.asarray(self.values[name])


def image_entropies(
    model: MaskedModel, matrix: MaskMatrix, images: Tensor, rows: NDArray[np.int64], extras: TaskExtras = NO_EXTRAS
) -> NDArray[np.float64]:
    """Entropy over all outputs, in nats, of each image `(b, inputs)` under the mask of its row `(b,)`; `(b,)`."""
    return entropy(run_each(model, matrix, images, rows, extras)).double().cpu().numpy()


def refused(confidence: float | NDArray[np.float32], level: float = LEVEL) -> bool | NDArray[np.bool_]:
    """Whether the images are of none of the tasks: the confidence of their guess, or of each, is below the level."""
    return confidence < level


def _p_value(own: NDArray[np.float64], found: float) -> float:
    return float((1 + (own >= found).sum()) / (1 + len(own)))


def _means(own: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Means of `images` draws with replacement, `(_DRAWS,)`; the same draws every time."""
    if images == 1:
        return own
    drawn = random_uint32(0, Role.SAMPLE, _DRAWS * images).reshape(_DRAWS, images) % len(own)
    return np.asarray(own[drawn].mean(axis=1))
