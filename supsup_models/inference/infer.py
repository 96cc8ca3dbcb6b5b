"""Which task do these images belong to? `infer_task` answers for a batch, `infer_each` for each image.

Wortsman et al. 2020, section 3.3 and algorithms 1 and 2. Nothing here ever sees a label or a true task. The answer does
not depend on the order of the tasks, but exact ties go to the earlier one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix
from supsup_models._names import choose, expect, number
from supsup_models.data import Views, checked_images
from supsup_models.errors import InferenceError
from supsup_models.inference.calibration import Calibration, image_uncertainty
from supsup_models.inference.choice import check_method
from supsup_models.inference.given import check_masks, check_views
from supsup_models.inference.guesses import Guess, Guesses
from supsup_models.inference.labelling import NO_EXTRAS
from supsup_models.inference.methods import binary, exhaustive, gradient, one_shot, pairs, prototypes
from supsup_models.inference.objectives import Objective, make_objective
from supsup_models.inference.superposition import Kept, Superposition, checked_answers
from supsup_models.networks import MaskedModel, TaskExtras

_CHUNK = 1024  # images that `infer_each` works on at a time


class _Method(NamedTuple):
    """A way to infer: scores of all masks for a batch as a whole `(k,)`, and for each image `(b, k)`.

    With `single_masks` it runs each mask by itself, with its extras.
    """

    of_batch: Callable[[Superposition[MaskedModel], Tensor, Objective], Tensor]
    of_each: Callable[[Superposition[Any], Tensor, Objective], Tensor]
    single_masks: bool = False


_METHODS = {
    "one-shot": _Method(one_shot.of_batch, one_shot.of_each),
    "binary": _Method(binary.of_batch, binary.of_each),
    "exhaustive": _Method(exhaustive.of_batch, exhaustive.of_each, single_masks=True),
    "short-list": _Method(one_shot.short_list_of_batch, one_shot.short_list_of_each),
    "gradient": _Method(gradient.of_batch, gradient.of_each),
    "pairs": _Method(pairs.of_batch, pairs.of_each, single_masks=True),
    "prototypes": _Method(prototypes.of_batch, prototypes.of_each, single_masks=True),
}
METHODS = tuple(_METHODS)


def usual_method(model: MaskedModel, views: Views | None, names: tuple[str, ...], extras: TaskExtras) -> str:
    """The method that is used for masks of these names unless another is asked for."""
    if views is not None:
        return "pairs"
    usual = model.inference_method
    return "prototypes" if usual == "exhaustive" and prototypes.has_prototypes(names, extras) else usual


class TaskInference:
    """Task inference over the masks of one matrix in one network, for many batches.

    What all batches need is computed once and kept: the packed masks on the network's device, and the weights times the
    mean mask. It is computed anew when masks are appended to the matrix or the network's weights change.

    Args:
        model: The network.
        matrix: k masks of the network's layers, one for each task. It may grow.
        calibration: What to judge the confidence of guesses by.
        extras: The masks' normalisation statistics by name, as a bank keeps them.
        views: Those that the masks were trained with, for the method "pairs".

    Raises:
        ShapeError: The masks are of other layers than the network's, or the views of other images.
        InferenceError: The network has fewer outputs than classes in all views.
        ArgumentTypeError: An argument is of a type that cannot be meant.

    Examples:
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, TaskInference, open_stream, train_task
        >>> stream = open_stream("permuted-digits", tasks=2)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in stream:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=30)
        ...     matrix.append(task.name, one.mask)
        >>> inference = TaskInference(model, matrix)
        >>> batches = stream[0].test.images(slice(0, 64)).split(16)
        >>> [inference.infer(images, method="binary").task for images in batches]
        [0, 0, 0, 0]
    """

    def __init__(
        self,
        model: MaskedModel,
        matrix: MaskMatrix,
        *,
        calibration: Calibration | None = None,
        extras: TaskExtras = NO_EXTRAS,
        views: Views | None = None,
    ) -> None:
        kinds = isinstance(model, MaskedModel), isinstance(matrix, MaskMatrix), isinstance(extras, Mapping)
        if not all(kinds) or matrix.spec != model.spec:
            check_masks(model, matrix, extras)
        if calibration is not None:
            expect("calibration", calibration, Calibration, "a Calibration", str="Calibration.read(path) reads one")
        if views is not None:
            check_views(model, views)
        self._mixed = Superposition(model, matrix, extras, views=views)
        self._calibration = calibration

    def __reduce__(self) -> tuple[Any, ...]:
        mixed = self._mixed
        return _again, (mixed.model, mixed.matrix, self._calibration, dict(mixed.extras), mixed.views)

    def __repr__(self) -> str:
        mixed = self._mixed
        calibrated = "no calibration" if self._calibration is None else repr(self._calibration)
        return f"TaskInference({len(mixed.matrix)} masks of {mixed.model.spec.bits} bits, {calibrated})"

    def infer(
        self, images: Any, *, method: str | None = None, objective: str | None = None, error: float = 0.0
    ) -> Guess:
        """The task of images that are all of one task; arguments and errors are those of `infer_task`."""
        tensor, scores = self._scores(images, method, objective, error, each=False)
        task = int(scores.argmax())
        if self._calibration is None:
            return Guess(task, scores)
        entropies = self._entropies(tensor, np.full(len(tensor), task))
        return Guess(task, scores, self._calibration.confidence(self._mixed.matrix.names[task], entropies))

    def infer_each(
        self, images: Any, *, method: str | None = None, objective: str | None = None, error: float = 0.0
    ) -> Guesses:
        """The task of each image; arguments and errors are those of the function `infer_each`."""
        tensor, scores = self._scores(images, method, objective, error, each=True)
        tasks = scores.argmax(axis=1).astype(np.int64, copy=False)
        if self._calibration is None:
            return Guesses(tasks, scores)
        names = self._mixed.matrix.names
        confidence = self._calibration.confidence_of_each(
            [names[task] for task in tasks], self._entropies(tensor, tasks)
        )
        return Guesses(tasks, scores, confidence)

    def _entropies(self, images: Tensor, tasks: NDArray[np.int64]) -> NDArray[np.float64]:
        mixed = self._mixed
        assert self._calibration is not None
        return image_uncertainty(mixed.model, mixed.matrix, images, tasks, mixed.extras, self._calibration.views)

    def _scores(
        self, images: Any, method: str | None, objective: str | None, error: float, *, each: bool
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """The images as the network takes them, and the scores `(k,)`, or `(b, k)` for each image."""
        mixed, model = self._mixed, self._mixed.model
        method = usual_method(model, mixed.views, mixed.matrix.names, mixed.extras) if method is None else method
        way = (isinstance(method, str) and _METHODS.get(method)) or choose("inference method", method, _METHODS)
        objective = model.objective if objective is None else objective
        cost = make_objective(objective, classes=model.classes, outputs=model.outputs)
        exact = isinstance(error, int | float) and error == 0
        if not exact and not 0 <= number("error", error) < 1:
            raise InferenceError(f"error: expected a number in [0, 1), found {error}")
        if error and method != "one-shot":
            raise InferenceError(
                f"error: expected 0 for the method {method!r}, found {error}; only one-shot has a bound"
            )
        if not len(mixed.matrix):
            raise InferenceError("task inference: expected at least one mask, found none")
        # gradients are needed here, so a caller's inference mode is left for a while, and its tensors are copied; so is
        # its autocast, because scores of masks are close to each other and packed products are in the network's dtype
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(model.device.type, enabled=False):
            tensor = checked_images(images, model)
            tensor = tensor.clone() if tensor.is_inference() else tensor
            alone = each or len(tensor) == 1
            if model.has_extras:
                names = mixed.matrix.names
                check_method(model, method, names, mixed.extras, single_masks=way.single_masks, alone=alone)
            if error:
                scores = one_shot.leaders(mixed, tensor.split(1 if each else len(tensor)), cost, error)
                scores = scores if each else scores[0]
            elif not each:
                scores = way.of_batch(mixed, tensor, cost)
            else:
                scores = torch.cat([way.of_each(mixed, chunk, cost) for chunk in tensor.split(_CHUNK)])
            return tensor, checked_answers(scores).float().cpu().numpy()


def _again(
    model: MaskedModel, matrix: MaskMatrix, calibration: Calibration | None, extras: TaskExtras, views: Views | None
) -> TaskInference:
    """What was sent to another process, where all that is kept is computed anew."""
    return TaskInference(model, matrix, calibration=calibration, extras=extras, views=views)


def infer_task(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Any,
    *,
    method: str | None = None,
    objective: str | None = None,
    error: float = 0.0,
    calibration: Calibration | None = None,
    extras: TaskExtras = NO_EXTRAS,
    views: Views | None = None,
) -> Guess:
    """Infer the task of unlabelled images that are all of one task.

    The images run through the network under a superposition of all masks, each with a weight alpha. The gradient of an
    objective by these weights tells which mask suits the images. Objectives are costs of the logits, low under the
    right mask:

    - H is the entropy of the softmax: under the right mask the network is certain.
    - G looks at superfluous outputs, which no class has and training makes unlikely: under the right mask they are.
      The network needs more outputs than classes.

    Results that many calls need are kept with the matrix, so the function is fast in a loop, too. `TaskInference` keeps
    them for as long as you want.

    Args:
        model: The network that the masks were trained in.
        matrix: k masks of the network's layers, one for each task.
        images: Real numbers of shape `(b, inputs)`, b >= 1, or of the shape of the network's images, a tensor or an
            array, normalised as in training. uint8 is refused: the network does not know how its training images were
            normalised.
        method: "one-shot" takes a single gradient at the mean mask. "binary" halves the masks by the median of the
            gradient until one is left. "gradient" descends on the masks' weights. "exhaustive" runs each mask by itself
            and compares the costs. "pairs" runs each mask by itself on all `views` of an image, and looks for the best
            pair of a task and a class: for masks that were trained with views. "short-list" is one-shot here; in a
            converted network it runs the few masks that one-shot prefers. "prototypes" runs the frozen network once,
            and looks for the task with the nearest class mean: for masks on kept weights. By default what works in the
            network: "pairs" with `views`, "prototypes" where all masks on kept weights have some among their extras,
            "exhaustive" where it normalises with running statistics, which fit no superposition, "one-shot" elsewhere.
        objective: "H" or "G"; `model.objective` by default.
        error: With the method "one-shot", the most that the chance of another task than the exact one may be, by the
            bound of `maskstore.MaskMatrix.leader`: of most masks only a part is then read, and their scores are
            estimates. 0 reads all. On a CUDA device all masks are read in any case.
        calibration: What to judge the guess's confidence by.
        extras: The masks' normalisation statistics by name, as a bank keeps them. Only a single mask has any, so
            exhaustive inference and the calibration use them. A superposition normalises with the statistics of the
            batch, which then must have at least two images; a MethodWarning says that it finds few tasks.
        views: Those that the masks were trained with; only "pairs" looks at them. None stands for the image as it is.

    Returns:
        The task's row in the matrix, the masks' scores, and the confidence.

    Raises:
        ShapeError: The images or the masks do not fit the network.
        ArgumentTypeError: An argument is of a type that cannot be meant.
        ImageValueError: The images hold NaN or infinity, are too large for the network's arithmetic, or are uint8.
        InferenceError: The matrix is empty, the objective is G and no output is superfluous, an error is given that is
            not in [0, 1), or for another method than "one-shot", or a mask has no prototypes for "prototypes".
        BatchStatisticsError: The network would normalise with the statistics of a batch, and the batch is a single
            image: under a superposition, or in exhaustive inference without `extras`.
        UnknownNameError: There is no such method or objective.

    Source:
        Wortsman et al. 2020, "Supermasks in Superposition", sections 3.3 (H) and 3.4 (G), algorithms 1 and 2.

    Examples:
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, infer_task, open_stream, train_task
        >>> stream = open_stream("permuted-digits", tasks=3)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in stream:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=30)
        ...     matrix.append(task.name, one.mask)
        >>> images = stream[1].test.images(slice(0, 16))
        >>> matrix.names[infer_task(model, matrix, images).task]
        'task-1'
        >>> matrix.names[infer_task(model, matrix, images, method="exhaustive", objective="G").task]
        'task-1'
    """
    inference = _inference(model, matrix, calibration, extras, views)
    return inference.infer(images, method=method, objective=objective, error=error)


def infer_each(
    model: MaskedModel,
    matrix: MaskMatrix,
    images: Any,
    *,
    method: str | None = None,
    objective: str | None = None,
    error: float = 0.0,
    calibration: Calibration | None = None,
    extras: TaskExtras = NO_EXTRAS,
    views: Views | None = None,
) -> Guesses:
    """Infer the task of each of some unlabelled images by itself; they may be of several tasks.

    Arguments and errors are those of `infer_task`, but for these differences.

    Args:
        model: The network.
        matrix: k masks of the network's layers, one for each task.
        images: Real numbers of shape `(b, inputs)`, b >= 1.
        method: "short-list" computes the one-shot score of the few masks that a sketch of the scores prefers, several
            times faster than "one-shot". In a converted network it also runs the few masks that "one-shot" prefers, and
            finds more tasks than "one-shot".
        objective: "H" or "G"; `model.objective` by default.
        error: As in `infer_task`, for each image. It pays with many more masks than images.
        calibration: What to judge the confidence of each guess by.
        extras: The masks' normalisation statistics by name.
        views: Those that the masks were trained with.

    Returns:
        For each image the task's row in the matrix, the masks' scores, and the confidence.

    Raises:
        BatchStatisticsError: The network normalises with running statistics, and the method is not "exhaustive", or
            `extras` lack those of a mask.

    Examples:
        >>> import torch
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, Recipe, RMSProp, infer_each, open_stream, train_task
        >>> stream = open_stream("permuted-digits", tasks=2)
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix, recipe = MaskMatrix(model.spec), Recipe("quick", RMSProp(4e-4))
        >>> for task in stream:
        ...     one = train_task(model, task.train, recipe, task=task.index, steps=30)
        ...     matrix.append(task.name, one.mask)
        >>> images = torch.cat([task.test.images(slice(0, 2)) for task in stream])
        >>> infer_each(model, matrix, images, method="exhaustive").tasks
        array([0, 0, 1, 1])
    """
    inference = _inference(model, matrix, calibration, extras, views)
    return inference.infer_each(images, method=method, objective=objective, error=error)


_KEPT: WeakKeyDictionary[MaskMatrix, Kept] = WeakKeyDictionary()
"""For each matrix that is still in use, what the last call of `infer_task` or `infer_each` left for the next."""


def _inference(
    model: MaskedModel, matrix: MaskMatrix, calibration: Calibration | None, extras: TaskExtras, views: Views | None
) -> TaskInference:
    inference = TaskInference(model, matrix, calibration=calibration, extras=extras, views=views)
    inference._mixed = replace(inference._mixed, kept=_KEPT.setdefault(matrix, Kept()))
    return inference
