"""Streams of tasks: `permuted-*`, `rotated-*` and `split-*` over the data sets, and streams of a caller's own arrays.

Everything about a stream follows from its name, its length and its seed; torch's random streams play no part.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import final, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from maskstore.philox import Role, random_permutation
from supsup_models.data.arrays import make_split
from supsup_models.data.names import parse_stream_name
from supsup_models.data.rotation import RotatedPixels
from supsup_models.data.sources import DataSet, load_data_set
from supsup_models.data.tasks import Split, Task
from supsup_models.errors import StreamLengthError, TaskDataError

ROTATION_STEP = 10  # degrees between a rotated task and the next
CLASSES_PER_SPLIT = 2
_DEFAULT_PERMUTATIONS = 10
_MAX_PERMUTATIONS = 1 << 32  # of one seed: the width of a random stream's number


@final
class TaskStream(Sequence[Task]):
    """A sequence of tasks, made when they are asked for; a task costs no copy of its images.

    `name` is the stream's name, `inputs` the pixels of an image, `classes` the outputs needed by any one task.
    """

    def __init__(
        self,
        name: str,
        make_task: Callable[[int], Task],
        *,
        tasks: int,
        inputs: int,
        classes: int,
        record: Mapping[str, object],
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.classes = classes
        self._make_task = make_task
        self._tasks = tasks
        self._record = dict(record)

    @classmethod
    def from_arrays(
        cls,
        arrays: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]],
        *,
        name: str = "arrays",
        classes: int | None = None,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> "TaskStream":
        """A stream of one task for each (train images, train labels, test images, test labels).

        Images have shape (n, inputs), or (n, ...) and are flattened; labels (n,) are integers in range(classes), where
        `classes` is one more than the largest label if not given. uint8 images are divided by 255, others are taken as
        float32 as they are; then (x - mean) / std. All is copied. Raises `TaskDataError` for anything else.
        """
        if not (std > 0 and np.isfinite([mean, std]).all()):
            raise TaskDataError(f"expected a finite mean and a positive std, found {mean} and {std}")
        tasks = []
        for index, four in enumerate(arrays):
            if len(four) != 4:
                raise TaskDataError(f"task {index}: expected four arrays, found {len(four)}")
            train = make_split(four[0], four[1], f"task {index}, train", mean=mean, std=std)
            test = make_split(four[2], four[3], f"task {index}, test", mean=mean, std=std)
            found = 1 + int(torch.maximum(train.labels.max(), test.labels.max()))
            if classes is not None and found > classes:
                raise TaskDataError(f"task {index} labels: expected labels in range({classes}), found {found - 1}")
            count = found if classes is None else classes
            tasks.append(Task(index, _task_name(index), count, train, test, tuple(range(count))))
        widths = sorted({split.inputs for task in tasks for split in (task.train, task.test)})
        if len(widths) != 1:
            found_widths = " and ".join(map(str, widths)) or "no task"
            raise TaskDataError(f"expected tasks with one number of inputs, found {found_widths}")
        return cls(
            name,
            tasks.__getitem__,
            tasks=len(tasks),
            inputs=widths[0],
            classes=max(task.classes for task in tasks),
            record={"data_set": None, "mean": mean, "std": std},
        )

    def __len__(self) -> int:
        return self._tasks

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Task, ...]: ...
    def __getitem__(self, index: int | slice) -> Task | tuple[Task, ...]:
        """The task of that index (negative ones count from the end), or a tuple of tasks; `IndexError` beyond them."""
        chosen = range(self._tasks)[index]
        return tuple(map(self._make_task, chosen)) if isinstance(chosen, range) else self._make_task(chosen)

    def description(self) -> str:
        """One line for people."""
        return f"{self.name}: {len(self)} tasks, {self.inputs} inputs, up to {self.classes} classes a task"

    def to_json(self) -> dict[str, object]:
        """What a run record must keep to open the same stream again and to know that it is the same."""
        sizes = {"tasks": len(self), "inputs": self.inputs, "classes": self.classes}
        return {"stream": self.name, **sizes, **self._record}


def open_stream(
    name: str, *, tasks: int | None = None, seed: int = 0, data: Path | None = None, download: bool = False
) -> TaskStream:
    """The stream `name`, one of `stream_names()`, with its data set loaded into memory.

    - `permuted-*`: task t sees all images with their pixels permuted, task 0 too; the permutation follows from `seed`
      and t alone. Any number of tasks, 10 if not said.
    - `rotated-*`: task t sees all images rotated counter-clockwise by 10 t degrees; up to 36 tasks.
    - `split-*`: task t sees classes 2t and 2t + 1, as task-local labels 0 and 1; up to 5 tasks.

    `data` and `download` say where files may come from (`load_data_set`); `seed` matters to permuted streams only.
    Raises `UnknownStreamError`, `StreamLengthError`, and what `load_data_set` raises.
    """
    kind, data_set_name = parse_stream_name(name)
    limit, default = {
        "permuted": (_MAX_PERMUTATIONS, _DEFAULT_PERMUTATIONS),
        "rotated": (360 // ROTATION_STEP, 360 // ROTATION_STEP),
        "split": (10 // CLASSES_PER_SPLIT, 10 // CLASSES_PER_SPLIT),  # every data set has ten classes
    }[kind]
    count = default if tasks is None else tasks
    if not 1 <= count <= limit:
        raise StreamLengthError(f"{name}: expected 1 to {limit} tasks, found {count}")
    source = load_data_set(data_set_name, data=data, download=download)
    if kind == "permuted":
        make_task = _permuted(source, seed)
    else:
        make_task = _rotated(source) if kind == "rotated" else _split(source)
    return TaskStream(
        name,
        make_task,
        tasks=count,
        inputs=source.inputs,
        classes=CLASSES_PER_SPLIT if kind == "split" else source.classes,
        record={
            "seed": seed,
            "data_set": source.name,
            "sha256": dict(source.sha256),
            "mean": source.mean,
            "std": source.std,
        },
    )


def _permuted(source: DataSet, seed: int) -> Callable[[int], Task]:
    train, test = torch.from_numpy(source.train_images), torch.from_numpy(source.test_images)
    train_labels, test_labels = torch.from_numpy(source.train_labels), torch.from_numpy(source.test_labels)

    def make_task(index: int) -> Task:
        permutation = random_permutation(seed, Role.PERMUTATION, source.inputs, stream=index)
        columns = torch.from_numpy(permutation)
        return _task(
            source,
            index,
            _split_of(source, lambda: train, train_labels, columns=columns),
            _split_of(source, lambda: test, test_labels, columns=columns),
        )

    make_task(0)  # a seed out of range is refused now, not after the first hour
    return make_task


def _rotated(source: DataSet) -> Callable[[int], Task]:
    train = RotatedPixels(source.train_images, source.height, source.width)
    test = RotatedPixels(source.test_images, source.height, source.width)
    train_labels, test_labels = torch.from_numpy(source.train_labels), torch.from_numpy(source.test_labels)

    def make_task(index: int) -> Task:
        degrees = float(ROTATION_STEP * index)
        return _task(
            source,
            index,
            _split_of(source, partial(train.at, degrees), train_labels),
            _split_of(source, partial(test.at, degrees), test_labels),
        )

    return make_task


def _split(source: DataSet) -> Callable[[int], Task]:
    train, test = torch.from_numpy(source.train_images), torch.from_numpy(source.test_images)

    def make_task(index: int) -> Task:
        first = CLASSES_PER_SPLIT * index
        train_rows, train_labels = _rows_of_classes(source.train_labels, first)
        test_rows, test_labels = _rows_of_classes(source.test_labels, first)
        return _task(
            source,
            index,
            _split_of(source, lambda: train, train_labels, rows=train_rows),
            _split_of(source, lambda: test, test_labels, rows=test_rows),
            global_labels=tuple(range(first, first + CLASSES_PER_SPLIT)),
        )

    return make_task


def _rows_of_classes(labels: NDArray[np.int64], first: int) -> tuple[Tensor, Tensor]:
    rows = np.flatnonzero((labels >= first) & (labels < first + CLASSES_PER_SPLIT))
    return torch.from_numpy(rows), torch.from_numpy(labels[rows] - first)


def _split_of(
    source: DataSet,
    pixels: Callable[[], Tensor],
    labels: Tensor,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
) -> Split:
    scale, shift = 1.0 / (source.levels * source.std), -source.mean / source.std
    return Split(labels, pixels, source.inputs, scale, shift, rows=rows, columns=columns)


def _task(
    source: DataSet, index: int, train: Split, test: Split, *, global_labels: tuple[int, ...] | None = None
) -> Task:
    names = tuple(range(source.classes)) if global_labels is None else global_labels
    return Task(index, _task_name(index), len(names), train, test, names)


def _task_name(index: int) -> str:
    return f"task-{index}"
