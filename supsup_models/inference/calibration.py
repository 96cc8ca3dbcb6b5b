"""How sure a guess of the task is, and when the images are of none of the tasks.

The statistic is the entropy of an image under the mask that was chosen for it. Where masks were trained with views, it
is minus the evidence for the best class (`methods.pairs`). A calibration remembers what it looks
like on images of each mask's own task, as a few quantiles. It takes them from held-out images and needs no labels. The
**confidence** of a guess is a p-value: the fraction of own images that are at least as uncertain as this one (Vovk et
al., "Algorithmic Learning in a Random World", 2005: conformal prediction).

For images of known tasks whose mask was found, the confidence is uniform in (0, 1]. To refuse all images below `level`
therefore refuses that fraction of them and no more, whatever the network's own idea of its certainty. How many images
of other tasks are refused depends on the network, so `fit` measures it: images of the calibrated tasks are strangers to
all masks but their own. `none_of_these` answers "no" only where nearly all strangers would have been refused.

A guess may be wrong, and its mask then refuses images of a known task. Images are of none of the tasks only if no mask
takes them for its own (`highest_confidence`).

For a batch that shares one guess, the statistic is the mean over its images, compared with means of as many draws. An
image counts for at most the largest value that was kept: one that is badly misread does not outweigh the others.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from maskstore.files import read_json, typed, write_json
from maskstore.philox import Role, random_uint32
from supsup_models._names import expect, found, number, path_of
from supsup_models.data import Views, checked_images
from supsup_models.errors import ArgumentTypeError, InferenceError, RunError
from supsup_models.inference.given import check_masks, check_views
from supsup_models.inference.labelling import NO_EXTRAS, run_each, view_evidence
from supsup_models.networks import MaskedModel, TaskExtras, entropy

LEVEL = 0.01  # of known tasks' images, refused by default
_VALUES = 128  # kept of each mask: enough to tell p = 0.01
_DRAWS = 1024  # means drawn to judge a batch's mean
_FORMAT = 1
_ENOUGH = 0.9  # of strangers: where fewer are refused, to refuse none says nothing
_STRANGERS = 8  # tasks whose images are strangers to the other masks
_TOGETHER = 16  # of their images, which are judged one by one and all together


@dataclass(frozen=True)
class Calibration:
    """What images of each mask's own task look like, to judge the confidence of task guesses by.

    Attributes:
        values: By the mask's name, the uncertainty of own images under it in nats, ascending; at most 128.
        power: The fractions of images of unknown tasks that are refused at 0.01, one by one and 16 together. None where
            it was not measured, as with a single mask.

    Raises:
        InferenceError: Values are not finite, not ascending or none, or the power is not two fractions.

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
    power: tuple[float, ...] | None = None
    views: Views | None = None

    def __post_init__(self) -> None:
        expect("calibration", self.values, Mapping, "ascending entropies by the masks' names")
        for name, values in self.values.items():
            for value in expect(f"calibration of {name!r:.80}", values, (tuple, list), "ascending entropies"):
                number(f"calibration of {name!r:.80}", value)
            if not values or not np.isfinite(values).all() or list(values) != sorted(values):
                raise InferenceError(f"calibration of {name!r}: expected finite ascending values, found others or none")

        if self.power is not None:
            for each in expect("calibration", self.power, (tuple, list), "a power of two fractions"):
                number("calibration, power", each)
        if self.power is not None and not (len(self.power) == 2 and all(0 <= each <= 1 for each in self.power)):
            raise InferenceError(f"calibration: expected a power of two fractions, found {self.power!r:.40}")

    def __repr__(self) -> str:
        return f"Calibration(of {len(self.values)} masks)"

    @classmethod
    def fit(
        cls,
        model: MaskedModel,
        matrix: MaskMatrix,
        images: Mapping[str, Any] | Iterable[tuple[str, Any]],
        extras: TaskExtras = NO_EXTRAS,
        *,
        views: Views | None = None,
    ) -> Self:
        """Calibrate masks on unlabelled images of their own tasks.

        Args:
            model: The network.
            matrix: Its masks.
            images: For each mask to calibrate, its name and held-out images `(n, inputs)`. Pairs are taken one at a
                time, so an iterable need not keep all images in memory.
            extras: The masks' normalisation statistics, by name.
            views: The views that the masks were trained with.

        Raises:
            TaskNotFoundError: The matrix has no mask of a name.
            InferenceError: A name comes twice.
            ShapeError, ImageValueError: Images that do not fit, as for `infer_task`.
        """
        kinds = isinstance(model, MaskedModel), isinstance(matrix, MaskMatrix), isinstance(extras, Mapping)
        if not all(kinds) or matrix.spec != model.spec:
            check_masks(model, matrix, extras)
        if not isinstance(images, Mapping | Iterable) or isinstance(images, Tensor | np.ndarray | str):
            raise ArgumentTypeError(
                f"images: expected images by the masks' names, or pairs of the two, found {found(images)}"
            )
        if views is not None:
            check_views(model, views)
        values, strangers = {}, list[tuple[str, Tensor]]()
        step = -(-len(matrix) // _STRANGERS)
        for pair in images.items() if isinstance(images, Mapping) else images:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ArgumentTypeError(f"images: expected pairs of a name and images, found {found(pair)}")
            name, own = pair
            checked = checked_images(own, model)
            row = matrix.index(name)
            if name in values:
                raise InferenceError(f"images: expected those of each mask once, found {name!r:.80} twice")
            rows = np.full(len(checked), row)
            if row % step == 0:
                strangers.append((name, checked[:_TOGETHER]))
            entropies = np.sort(image_uncertainty(model, matrix, checked, rows, extras, views))
            kept = (
                entropies if len(entropies) <= _VALUES else np.quantile(entropies, (np.arange(_VALUES) + 0.5) / _VALUES)
            )
            values[name] = tuple(round(float(value), 5) for value in kept)
        return cls(values, cls(values, views=views)._measured(model, matrix, strangers, extras), views)

    def _measured(
        self, model: MaskedModel, matrix: MaskMatrix, strangers: list[tuple[str, Tensor]], extras: TaskExtras
    ) -> tuple[float, float] | None:
        """The power: how many images are refused when their own task's mask does not count; None with a single mask."""
        if len(self.values) < 2:
            return None
        alone, together = [], []
        for name, images in strangers:
            others = [other for other in self.values if other != name]
            alone.append(self._highest(model, matrix, images, extras, others, one_task=False))
            together.append(self._highest(model, matrix, images, extras, others, one_task=True))
        return (
            round(float((np.concatenate(alone) < LEVEL).mean()), 4),
            round(float((np.concatenate(together) < LEVEL).mean()), 4),
        )

    def highest_confidence(
        self,
        model: MaskedModel,
        matrix: MaskMatrix,
        images: Any,
        extras: TaskExtras = NO_EXTRAS,
        *,
        one_task: bool = False,
    ) -> NDArray[np.float32]:
        """The confidence of the mask that takes images for its own most readily, whatever the guess: `(b,)`.

        With `one_task`, of all images together: `(1,)`. Every mask runs once.

        Raises:
            ShapeError, ImageValueError: Images that do not fit, as for `infer_task`.
            InferenceError: A mask was not calibrated.
        """
        return self._highest(model, matrix, checked_images(images, model), extras, matrix.names, one_task=one_task)

    def _highest(
        self,
        model: MaskedModel,
        matrix: MaskMatrix,
        images: Tensor,
        extras: TaskExtras,
        names: Iterable[str],
        *,
        one_task: bool,
    ) -> NDArray[np.float32]:
        best = np.zeros(1 if one_task else len(images), dtype=np.float32)
        for name in names:
            entropies = image_uncertainty(
                model, matrix, images, np.full(len(images), matrix.index(name)), extras, self.views
            )
            own = (
                self.confidence(name, entropies)
                if one_task
                else self.confidence_of_each([name] * len(images), entropies)
            )
            np.maximum(best, own, out=best)
        return best

    def none_of_these(self, highest: float, images: int = 1) -> bool | None:
        """Whether images are of none of the tasks, by their highest confidence.

        True below 0.01, which is so for one in a hundred images of known tasks. False where the calibration refuses at
        least nine in ten strangers; None where it refuses fewer, so that nothing follows from not being refused.
        `images` says how many were judged together.
        """
        if highest < LEVEL:
            return True
        power = 0.0 if self.power is None else self.power[images >= _TOGETHER]
        return False if power >= _ENOUGH else None

    def confidence(self, name: str, entropies: NDArray[np.float64]) -> float:
        """The confidence that images, all of one task, are of the task of a mask.

        Args:
            name: The mask's name.
            entropies: Those of the images under the mask in nats, `(b,)`.

        Raises:
            InferenceError: The mask was not calibrated, or there are no entropies, or some that are not finite.
        """
        values = _entropies(entropies)
        own = self._of(name)
        if len(values) > 1:  # quantiles know no image beyond the last: a single one would speak for the whole batch
            values = np.minimum(values, own[-1])
        return _p_value(_means(own, len(values)), float(values.mean()))

    def confidence_of_each(self, names: Sequence[str], entropies: NDArray[np.float64]) -> NDArray[np.float32]:
        """The confidence `(b,)` of each image in a task of its own, as `confidence` gives it for one image."""
        values = _entropies(entropies)
        if len(names) != len(values):
            raise InferenceError(f"names: expected one for each of {len(values)} entropies, found {len(names)}")
        own = {name: self._of(name) for name in set(names)}
        each = [_p_value(own[name], value) for name, value in zip(names, values.tolist(), strict=True)]
        return np.array(each, dtype=np.float32)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, which replaces an earlier one whole or not at all.

        Raises:
            MaskStoreError: The file cannot be written.
        """
        measured = {} if self.power is None else {"power": list(self.power)}
        shown = {} if self.views is None else {"views": asdict(self.views)}
        content = {"format": _FORMAT, "values": dict(self.values), **measured, **shown}
        write_json(path_of("path", path), content, indent=None)

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
        power = None if content.get("power") is None else typed(tuple[float, ...], content["power"], "power")
        views = None if content.get("views") is None else typed(Views, content["views"], "views")
        return cls(typed(Mapping[str, tuple[float, ...]], content["values"], "values"), power, views)

    def covers(self, names: Iterable[str]) -> bool:
        """Whether all masks of these names were calibrated."""
        return self.values.keys() >= set(names)

    def _of(self, name: str) -> NDArray[np.float64]:
        if name not in self.values:
            raise InferenceError(f"calibration: expected values for mask {name!r}, found none")
        return np.asarray(self.values[name])


def image_uncertainty(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Tensor,
    rows: NDArray[np.int64],
    extras: TaskExtras = NO_EXTRAS,
    views: Views | None = None,
) -> NDArray[np.float64]:
    """How uncertain the mask of its row `(b,)` is of each image `(b, inputs)`, in nats; `(b,)`.

    The entropy over all outputs; with views minus the evidence for the best class.
    """
    if views is None:
        found = entropy(run_each(model, matrix, images, rows, extras))
    else:
        check_views(model, views)
        found = -view_evidence(model, matrix, images, rows, extras, views).amax(dim=1)
    return found.double().cpu().numpy()


def refused(confidence: float | NDArray[np.float32], level: float = LEVEL) -> bool | NDArray[np.bool_]:
    """Whether the images are of none of the tasks: the confidence of their guess, or of each, is below the level."""
    return confidence < level


def _entropies(values: Any) -> NDArray[np.float64]:
    """Entropies as an array; InferenceError for none, and for those that are no finite numbers."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InferenceError(f"entropies: expected an array of numbers, found {found(values)}") from None
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InferenceError(f"entropies: expected finite numbers of shape (b,), b >= 1, found shape {array.shape}")
    return array


def _p_value(own: NDArray[np.float64], found: float) -> float:
    return float((1 + (own >= found).sum()) / (1 + len(own)))


def _means(own: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Means of `images` draws with replacement, `(_DRAWS,)`; the same draws every time."""
    if images == 1:
        return own
    drawn = random_uint32(0, Role.SAMPLE, _DRAWS * images).reshape(_DRAWS, images) % len(own)
    return np.asarray(own[drawn].mean(axis=1))
