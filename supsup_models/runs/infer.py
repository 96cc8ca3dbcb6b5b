"""Task, label and confidence of images that nobody labelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskstore import MaskMatrix
from maskstore.errors import ForeignFileError, IrregularFileError
from maskstore.files import read_npy_file
from supsup_models._names import found, path_of
from supsup_models.data import PixelScale, Views, checked_images
from supsup_models.errors import ArgumentTypeError, RunError, ShapeError
from supsup_models.inference import Calibration, Inference, TaskInference, classify, labels_of, refused
from supsup_models.networks import MaskedModel, TaskExtras
from supsup_models.runs.load import LoadedRun, load_run
from supsup_models.runs.record import RunRecord, calibration_path

_LEAST_STD = 1e-6  # of pixels in [0, 1]; what is below, or above its inverse, no data have


@dataclass(frozen=True)
class Answer:
    """For one image: the inferred task's name, the label, and the softmax of that label under the task's mask.

    `confidence` is the network's own. `task_confidence` is that of the guess: the share of the task's own images that
    look less like it. `none_of_these` says whether the image looks like those of none of the tasks, whatever the guess.
    It is None where that is unknown, because the calibration lets too many images of unknown tasks pass. All that
    concerns the task is None where the run has no calibration of all its masks.
    """

    task: str
    label: int
    confidence: float
    task_confidence: float | None = None
    none_of_these: bool | None = None


@dataclass(frozen=True)
class Answers:
    """One answer an image, how their pixels were read, and lines for the person where something is hardly as wanted."""

    normalisation: str
    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()


def infer_images(
    folder: str | Path | LoadedRun,
    images: str | Path | NDArray[np.generic] | torch.Tensor,
    *,
    method: str | None = None,
    objective: str | None = None,
    views: int | None = None,
    one_task: bool = False,
    error: float = 0.0,
    pixels: str | None = None,
    device: str = "auto",
    immutable: bool = False,
) -> Answers:
    """Name the task and the label of every image.

    Args:
        folder: The run's folder, or the run as `load_run` gave it.
        images: An array or a tensor, or a `.npy` file of one, uint8 or float: `(n, inputs)`, or in the shape of the
            run's images, such as `(n, height, width)` or `(n, channels, height, width)`.
        method: How tasks are inferred, as in `infer_task`; by default what works in the run's network.
        objective: "H" or "G"; what the masks were trained for if not said.
        views: How many views of each image the method "pairs" looks at, 1, 4 or 8; all that the masks were trained with
            if not said.
        one_task: All images are of one task, which is then inferred from all of them together.
        error: As in `infer_task`, for the method "one-shot": of most masks only a part is read.
        pixels: The form of the pixels: "normalised" like the training images, "unit" for floats in [0, 1], "raw" for
            the levels of the data set, 0 to 255. By default it is told from the values: uint8 is raw, floats in [0, 1]
            are unit where training images go below 0, other floats are normalised. `Answers.normalisation` says what
            was done.
        device: "auto", "cpu" or "cuda".
        immutable: Read the bank as it lies there, as `MaskBank.open` does, because nobody writes to it.

    Raises:
        ShapeError, ImageValueError: Images that do not fit, or pixels of a range that cannot be meant.
        UnknownNameError: No such method, objective or form of pixels.
        RunError: A folder without a finished task.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from supsup_models import infer_images, open_stream, run_config, train_run
        >>> config = run_config("permuted-digits", tasks=2, outputs=40, batches=60, recipe="dense")
        >>> unlabelled = open_stream("permuted-digits", tasks=2)[1].test.images(slice(0, 16)).numpy()
        >>> with TemporaryDirectory() as folder:
        ...     _ = train_run(config, Path(folder))
        ...     found = infer_images(Path(folder), unlabelled, one_task=True)
        >>> found.answers[0].task
        'task-1'
    """
    asked = Inference(method, objective)
    run = folder if isinstance(folder, LoadedRun) else load_run(folder, device, immutable=immutable)
    way = run.with_views(asked, views)
    values, normalisation = pixel_scale(run.record).normalised(read_images(images, run.record), pixels)
    checked = checked_images(values, run.model)
    path = calibration_path(run.folder)
    calibration = read_calibration(path)
    notes = [] if (note := run.objective_note(way)) is None else [note]
    if calibration is not None and not calibration.covers(run.matrix.names):  # more tasks than it was made for
        calibration = None
        notes.append(
            f"no task confidence: expected values for all {len(run.matrix)} masks in {path}, found some missing; "
            "`train_run` adds them when it has trained all tasks"
        )
    inference = TaskInference(run.model, run.matrix, calibration=calibration, extras=run.extras, views=way.views)
    answers = answer_images(
        inference, run.model, run.matrix, checked, run.extras, calibration,
        method=method, objective=objective, views=way.views, one_task=one_task, error=error,
    )  # fmt: skip
    if calibration is not None and calibration.power is not None and any(a.none_of_these is None for a in answers):
        share = calibration.power[one_task and len(checked) >= 16]
        notes.append(
            f"none of these tasks: unknown where the answer is no, because only {share:.0%} of images of an unknown "
            "task would be refused here"
        )
    return Answers(normalisation, answers, tuple(notes))


def answer_images(
    inference: TaskInference,
    model: MaskedModel,
    matrix: MaskMatrix,
    checked: torch.Tensor,
    extras: TaskExtras,
    calibration: Calibration | None,
    *,
    method: str | None = None,
    objective: str | None = None,
    views: Views | None = None,
    one_task: bool = False,
    error: float = 0.0,
) -> tuple[Answer, ...]:
    """The answers to checked images `(n, inputs)`, given the inference over the matrix; see `infer_images`."""
    if one_task:
        one = inference.infer(checked, method=method, objective=objective, error=error)
        tasks, sureness = np.full(len(checked), one.task), [one.confidence] * len(checked)
    else:
        each = inference.infer_each(checked, method=method, objective=objective, error=error)
        tasks, sureness = each.tasks, [None] * len(checked) if each.confidence is None else each.confidence.tolist()
    none_of_these = _none_of_these(model, matrix, extras, checked, sureness, calibration, one_task=one_task)
    probabilities = classify(model, matrix, checked, tasks, extras, views)
    labels = labels_of(model, probabilities)
    confidence = probabilities[torch.arange(len(checked)), torch.from_numpy(labels)].tolist()
    names = matrix.names
    return tuple(
        Answer(names[task], label, sure, of_task, none)
        for task, label, sure, of_task, none in zip(
            tasks.tolist(), labels.tolist(), confidence, sureness, none_of_these, strict=True
        )
    )


def read_calibration(path: Path) -> Calibration | None:
    """A run's calibration, None if it has none; RunError for a damaged one, which says what can be done."""
    try:
        return Calibration.read(path)
    except FileNotFoundError:
        return None
    except RunError as error:
        remedy = "`train_run` with the same settings makes it anew; without the file, answers have no confidence"
        raise RunError(f"{error}; {remedy}") from error


def _none_of_these(
    model: MaskedModel,
    matrix: MaskMatrix,
    extras: TaskExtras,
    images: torch.Tensor,
    sureness: Sequence[float | None],
    calibration: Calibration | None,
    *,
    one_task: bool,
) -> list[bool | None]:
    """For each image, whether it is of none of the tasks. Where its guess refuses it, the other masks are asked too."""
    if calibration is None:
        return [None] * len(images)
    highest = np.array(sureness, dtype=np.float32)
    low = np.flatnonzero(np.asarray(refused(highest)))
    if len(low):
        own = calibration.highest_confidence(model, matrix, images[low], extras, one_task=one_task)
        highest[low] = own
    together = len(images) if one_task else 1
    return [calibration.none_of_these(each, together) for each in highest.tolist()]


def read_images(images: Any, record: RunRecord) -> NDArray[np.generic]:
    """Images of a run, an array or a `.npy` file of one, flattened to `(n, inputs)`; ShapeError for anything else."""
    given: Any = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
    is_array = isinstance(given, np.ndarray)
    if not is_array and not isinstance(given, str | PathLike):
        raise ArgumentTypeError(f"images: expected an array, or the path of a .npy file of one, found {found(given)}")
    what, array = ("images", given) if is_array else (str(given), _load(path_of("images", given)))
    if array.ndim < 2 or not array.size:
        raise ShapeError(
            f"{what}: expected one array of shape (n, inputs) or (n, height, width) with n >= 1, found shape "
            f"{array.shape}"
        )
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ShapeError(f"{what}: expected uint8 or float pixels, found {array.dtype}")
    shape = record.network.image_shape or ()
    channels = np.size(record.pixels.scale)
    if len(shape) == 3 and array.ndim > 2 and array.shape[1:] not in (shape, shape[shape[0] == 1 :]):
        raise ShapeError(f"{what}: expected images of shape {shape}, channels first, found {array.shape[1:]}")
    if channels > 1 and array.ndim > 2 and array.shape[1] != channels:
        raise ShapeError(f"{what}: expected images of {channels} channels, channels first, found {array.shape[1:]}")
    return array.reshape(len(array), -1)


def _load(file: Path) -> NDArray[np.generic]:
    try:
        return read_npy_file(file)
    except FileNotFoundError:
        raise ShapeError(f"{file}: expected a .npy file of images, found no file") from None
    except (ForeignFileError, IrregularFileError) as error:
        found = str(error).removeprefix(f"{file}: ")
        raise ShapeError(f"{file}: expected a .npy file of images, found something else ({found})") from None
    except OSError as error:
        raise ShapeError(f"{file}: expected a .npy file of images, found none to read: {error.strerror}") from None


def pixel_scale(record: RunRecord) -> PixelScale:
    """How a run's training images were normalised, as far as its record says."""
    scale, shift, std = record.pixels.scale, record.pixels.shift, record.stream.get("std")
    numbers: list[Any] = std if isinstance(std, list) else [std]
    known = all(type(each) in (int, float) and _LEAST_STD < each < 1 / _LEAST_STD for each in numbers)
    if not known or len(numbers) not in (1, np.size(scale)):
        return PixelScale(scale, shift)
    return PixelScale(scale, shift, tuple(map(float, numbers)) if isinstance(std, list) else float(numbers[0]))
