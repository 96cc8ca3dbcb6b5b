"""What the explorer shows: a few test images of each task, what every mask says of them, and what the masks cost."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskBank
from supsup_models._progress import Reporter, Reporting
from supsup_models.data import TaskStream
from supsup_models.errors import InferenceError
from supsup_models.inference import Entropy, Inference, infer_each, sampled
from supsup_models.runs import LoadedRun, bank_path

MOST_IMAGES = 400
MOST_PICTURES = 32
"""Masks that are shown as pictures."""
ALL_MASKS = 64
"""So many masks, or fewer, are all tried on every image; of more, only those with the best scores."""
TRIED = 8
PICTURE = 96
"""The most cells of a picture of a layer, along one side."""


@dataclass(frozen=True)
class Looked:
    """One image: whose it is, and what the masks say of it."""

    task: int
    """Its own task, a row of `Explored.names`; -1 where the run knows no tasks."""
    label: int
    pixels: NDArray[np.uint8]
    """`(height, width)` or `(height, width, 3)`."""
    scores: NDArray[np.float32]
    """`(k,)`, one for each mask; the highest names the task."""
    tried: tuple[int, ...]
    """Masks that the image was run under, by score."""
    entropies: NDArray[np.float32]
    """Nats, one for each mask tried."""
    probabilities: NDArray[np.float32]
    """`(tried, classes)`, of the labels under each mask tried."""


@dataclass(frozen=True)
class Pictured:
    """One mask: its bits by layer, and each layer as a picture."""

    layers: tuple[NDArray[np.uint8], ...]
    """For each layer `(rows, columns)`: the share of kept weights in a rectangle of them, 255 for all."""
    kept: tuple[float, ...]
    """Share of kept weights, by layer."""


@dataclass(frozen=True)
class Explored:
    """Everything that the page shows."""

    title: str
    names: tuple[str, ...]
    """The tasks of the masks."""
    method: str
    objective: str
    layers: tuple[tuple[str, tuple[int, ...]], ...]
    bits: tuple[float, ...]
    """Coded bits a weight of each mask."""
    accuracies: tuple[float | None, ...]
    """Of each mask, its task given, as training measured it."""
    images: tuple[Looked, ...]
    pictures: tuple[Pictured, ...]
    """Of the first masks."""

    @property
    def found(self) -> float | None:
        """Share of the images whose task has the highest score; None where the run knows no tasks."""
        known = [image for image in self.images if image.task >= 0]
        return sum(int(image.scores.argmax()) == image.task for image in known) / len(known) if known else None


def explored(
    run: LoadedRun,
    stream: TaskStream,
    inference: Inference,
    count: int,
    *,
    immutable: bool = False,
    reporter: Reporting = Reporter,
) -> Explored:
    """Look at `count` test images of a run, as many of each task as of any other.

    Args:
        run: The run.
        stream: Its stream. Which test images are drawn depends on the run's seed.
        inference: How tasks are inferred; every image is an inference of its own.
        count: Images over all tasks; tasks without any are those at the end.
        immutable: Read the bank as it lies there, as `MaskBank.open` does.
        reporter: Shows the progress.

    Raises:
        InferenceError: No image, or more than 400.
    """
    if not 1 <= count <= MOST_IMAGES:
        raise InferenceError(f"images: expected 1 to {MOST_IMAGES} to show, found {count}")
    model, matrix, names = run.model, run.matrix, run.matrix.names
    inference = run.with_views(inference).chosen(model, run.matrix.names, run.extras)
    rows = {name: row for row, name in enumerate(names)} if run.record.config.task_identity else {}
    shown = run.tasks(stream)[:count]
    shape = tuple(stream.image_shape)
    looked = list[Looked]()
    with reporter("looking", len(shown) + 1) as report:
        for number, (task, chosen) in enumerate(
            zip(shown, sampled(shown, 1, count, run.record.config.seed), strict=True)
        ):
            indices = torch.from_numpy(chosen)
            images = task.test.images(indices).to(model.weights)
            scores = infer_each(
                model, matrix, images, method=inference.method, objective=inference.objective, extras=run.extras,
                views=inference.views,
            ).scores  # fmt: skip
            own = rows.get(task.name, -1)
            tried = _tried(scores, own)
            answers = _answers(run, images, tried)
            for place, label in enumerate(task.test.labels[indices.to(task.test.labels.device)].tolist()):
                entropies, probabilities = zip(*(answers[row][place] for row in tried[place]), strict=True)
                looked.append(
                    Looked(own, int(label), _pixels(images[place], shape), scores[place], tried[place],
                           np.array(entropies, np.float32), np.stack(probabilities))
                )  # fmt: skip
            report.at(number + 1)
        pictures = tuple(_pictured(run, row) for row in range(min(len(matrix), MOST_PICTURES)))
        bits, accuracies = _costs(run, immutable)
        report.at(len(shown) + 1)
    return Explored(
        title=f"{run.folder.resolve().name}: {run.record.config.stream}, {run.record.config.model}",
        names=names,
        method=str(inference.method),
        objective=str(inference.objective),
        layers=tuple((layer.name, layer.shape) for layer in matrix.spec),
        bits=bits,
        accuracies=accuracies,
        images=tuple(looked),
        pictures=pictures,
    )


def _tried(scores: NDArray[np.float32], own: int) -> list[tuple[int, ...]]:
    """The masks to run each image under: all of them, or the best ones and its own, the best first."""
    order = np.argsort(-scores, axis=1, kind="stable")
    if scores.shape[1] <= ALL_MASKS:
        return [tuple(row) for row in order.tolist()]
    best = [row[:TRIED] for row in order.tolist()]
    return [tuple(row) if own < 0 or own in row else (*row, own) for row in best]


def _answers(
    run: LoadedRun, images: Tensor, tried: list[tuple[int, ...]]
) -> dict[int, dict[int, tuple[float, NDArray[np.float32]]]]:
    """For each mask and the images tried under it: the entropy of the outputs, the probabilities of the labels."""
    found: dict[int, dict[int, tuple[float, NDArray[np.float32]]]] = {}
    for row in sorted({row for each in tried for row in each}):
        places = [place for place, each in enumerate(tried) if row in each]
        with torch.no_grad():
            weights = run.model.masked_weights(run.matrix[row])
            logits = run.model.run_with(images[places], weights, run.extras.get(run.matrix.names[row]))
            entropies = Entropy().cost(logits).float().cpu().numpy()
            labels = torch.softmax(logits[:, : run.model.classes].float(), dim=1).cpu().numpy()
        found[row] = {place: (float(entropies[at]), labels[at]) for at, place in enumerate(places)}
    return found


def _pixels(image: Tensor, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An image as the network sees it, its darkest pixel 0 and its brightest 255."""
    values = image.detach().float().cpu().numpy()
    if len(shape) != 3 or int(np.prod(shape)) != values.size:
        wide = ceil(values.size**0.5)
        shape = (1, ceil(values.size / wide), wide)
    flat = np.full(int(np.prod(shape)), values.min(), dtype=np.float32)
    flat[: values.size] = values
    low, high = float(flat.min()), float(flat.max())
    levels = np.rint((flat - low) * (255 / max(high - low, 1e-12))).astype(np.uint8).reshape(shape)
    shown: NDArray[np.uint8] = levels.transpose(1, 2, 0)[:, :, :3] if shape[0] >= 3 else levels[0]
    return shown


def _pictured(run: LoadedRun, row: int) -> Pictured:
    """A mask's layers as pictures of at most 96 cells a side."""
    pictures, kept = [], []
    for layer in run.matrix[row].dense().values():
        plain = layer.reshape(layer.shape[0], -1) if layer.ndim > 1 else layer.reshape(1, -1)
        kept.append(float(plain.mean()))
        pictures.append(np.rint(255 * _shrunk(plain)).astype(np.uint8))
    return Pictured(tuple(pictures), tuple(kept))


def _shrunk(layer: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of rectangles of a layer, as many as fit a picture."""
    means = layer.astype(np.float64)
    for axis in (0, 1):
        size = means.shape[axis]
        starts = np.unique(np.linspace(0, size, min(size, PICTURE), endpoint=False).astype(int))
        counts = np.diff(np.append(starts, size))
        means = np.add.reduceat(means, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
    return means


def _costs(run: LoadedRun, immutable: bool) -> tuple[tuple[float, ...], tuple[float | None, ...]]:
    """Coded bits a weight, and the accuracy that training noted, of each mask."""
    with MaskBank.open(bank_path(run.folder), immutable=immutable) as bank:
        infos = {info.name: info for info in bank.infos()}
    bits, accuracies = [], list[float | None]()
    for name in run.matrix.names:
        info = infos[name]
        accuracy = info.meta.get("accuracy")
        bits.append(8 * info.coded_bytes / run.matrix.spec.bits)
        accuracies.append(float(accuracy) if isinstance(accuracy, int | float) and 0 <= accuracy <= 1 else None)
    return tuple(bits), tuple(accuracies)
