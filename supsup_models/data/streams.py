"""Streams of tasks: `permuted-*`, `rotated-*`, `split-*` and more over the data sets, and of a caller's own data.

Everything about a stream follows from its name, its length and its seed; torch's random streams play no part.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, final, overload

import numpy as np
from numpy.typing import ArrayLike

from maskstore.files import is_name
from supsup_models._names import found as found_of
from supsup_models._names import path_of, seed_of, whole_number
from supsup_models.data import stream_kinds
from supsup_models.data.arrays import MAX_CLASSES, SamePixels, collected, make_split
from supsup_models.data.names import classes_per_split, data_sets_of, parse_stream_name, stream_length
from supsup_models.data.sets import ClassFolders, DataSet, find_imagenet, load_data_set
from supsup_models.data.tasks import Task, plain
from supsup_models.errors import ArgumentTypeError, ClassesWarning, StreamLengthError, TaskDataError

T = TypeVar("T")
_Four = tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]
_INDEX_DIGITS = 18  # a task's index has fewer


@final
class TaskStream(Sequence[Task]):
    """A sequence of tasks, made when they are asked for; a task takes no copy of its images.

    `open_stream`, `from_arrays` and `from_datasets` make one.

    Args:
        name: the stream's name.
        make_task: gives the task of an index.
        tasks: how many there are.
        inputs: values of an image.
        classes: the outputs needed by any one task.
        record: what `to_json` says beside those, so that the same data can be found again.
        image_shape: an image's shape, channels first; None stands for one row.
        names: the tasks' names, which `make_task` gives them; None stands for "task-0", "task-1", ...

    Examples:
        >>> import numpy as np
        >>> from supsup_models import TaskStream
        >>> rng = np.random.default_rng(0)
        >>> def half() -> tuple[np.ndarray, np.ndarray]:
        ...     return rng.random((20, 8, 8)), rng.integers(0, 2, 20)
        >>> stream = TaskStream.from_arrays([(*half(), *half()) for _ in range(3)], name="noise")
        >>> print(stream.description())
        noise: 3 tasks, 64 inputs, up to 2 classes a task
        >>> [task.name for task in stream[1:]]
        ['task-1', 'task-2']
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
        image_shape: tuple[int, ...] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.classes = classes
        self.image_shape = (inputs,) if image_shape is None else image_shape
        self._make_task = make_task
        self._tasks = tasks
        self._record = dict(record)
        self._rows = None if names is None else {each: row for row, each in enumerate(names)}

    @classmethod
    def from_arrays(
        cls,
        arrays: Iterable[_Four] | Mapping[str, _Four],
        *,
        name: str = "arrays",
        classes: int | None = None,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> "TaskStream":
        """A stream of one task for each (train images, train labels, test images, test labels).

        A dict of these by name gives the tasks their names; others are called task-0, task-1 and so on. Images have
        shape (n, inputs), or (n, ...) and are flattened; labels (n,) are integers in range(classes), where `classes` is
        one more than the largest label if not given; a `ClassesWarning` says if one of them has no image.
        uint8 images are divided by 255, others are taken as float32 as they are; then (x - mean) / std. All is copied.
        Raises `TaskDataError` for anything else.
        """
        if not isinstance(arrays, Iterable):
            raise ArgumentTypeError(f"arrays: expected four arrays for each task, found {found_of(arrays)}")
        names, fours = _by_name(arrays)
        return cls._of_arrays(fours, names, name=name, classes=classes, mean=mean, std=std)

    @classmethod
    def _of_arrays(
        cls,
        arrays: Iterable[_Four],
        names: Sequence[str] | None,
        *,
        name: str,
        classes: int | None,
        mean: float,
        std: float,
    ) -> "TaskStream":
        if classes is not None and not 1 <= (classes := whole_number("classes", classes)) <= MAX_CLASSES:
            raise TaskDataError(f"classes: expected a number in [1, {MAX_CLASSES}], found {classes}")
        levels: tuple[Any, Any] = mean, std
        if not (all(isinstance(each, Real) for each in levels) and std > 0 and np.isfinite([mean, std]).all()):
            raise TaskDataError(f"expected a finite mean and a positive std, a number each, found {mean} and {std}")
        tasks, shapes, pixels = [], set(), SamePixels()
        for index, four in enumerate(arrays):
            _check_count(four, 4, "four arrays", index)
            train = make_split(four[0], four[1], f"task {index}, train", mean=mean, std=std)
            test = make_split(four[2], four[3], f"task {index}, test", mean=mean, std=std)
            for split, given, part in ((train, four[0], "train"), (test, four[2], "test")):
                pixels.check(split, given, f"task {index}, {part} images")
            found = 1 + int(max(train.labels.max(), test.labels.max()))
            if classes is not None and found > classes:
                raise TaskDataError(f"task {index} labels: expected labels in range({classes}), found {found - 1}")
            own_name = None if names is None else names[index]
            tasks.append(
                Task(index, tuple(range(found if classes is None else classes)), train, test, given_name=own_name)
            )
            shapes |= {tuple(np.shape(four[0])[1:]), tuple(np.shape(four[2])[1:])}
        if classes is None:
            _warn_of_gaps(tasks)
        widths = sorted({split.inputs for task in tasks for split in (task.train, task.test)})
        if len(widths) != 1:
            found_widths = " and ".join(map(str, widths)) or "no task"
            raise TaskDataError(f"expected tasks with one number of inputs, found {found_widths}")
        shape = shapes.pop() if len(shapes) == 1 else (widths[0],)
        return cls(
            name,
            tasks.__getitem__,
            tasks=len(tasks),
            inputs=widths[0],
            classes=max(task.classes for task in tasks),
            image_shape=(1, *shape) if len(shape) == 2 else shape,
            record={"data_set": None, "mean": float(mean), "std": float(std)},
            names=names,
        )

    @classmethod
    def from_datasets(
        cls,
        datasets: Iterable[tuple[Any, Any]] | Mapping[str, tuple[Any, Any]],
        *,
        name: str = "datasets",
        classes: int | None = None,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> "TaskStream":
        """A stream of one task for each (train, test) pair of torch datasets with lengths, of (image, label) pairs.

        Images are tensors or arrays, channels first, or anything that numpy reads (an image of Pillow is height x width
        x channels); all of one shape. All are read once and kept, then treated as in `from_arrays`: what a data set
        draws at random is drawn once. A dict of pairs by name gives the tasks their names. Raises `TaskDataError` for
        anything else.
        """

        if not isinstance(datasets, Iterable):
            raise ArgumentTypeError(f"datasets: expected a pair of data sets for each task, found {found_of(datasets)}")
        names, of_tasks = _by_name(datasets)

        def pairs() -> Iterator[_Four]:
            for index, pair in enumerate(of_tasks):
                _check_count(pair, 2, "a pair of datasets", index)
                train, test = pair
                yield *collected(train, f"task {index}, train"), *collected(test, f"task {index}, test")

        return cls._of_arrays(pairs(), names, name=name, classes=classes, mean=mean, std=std)

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

    def __repr__(self) -> str:
        return f"TaskStream({self.description()})"

    def named(self, names: Iterable[str]) -> list[Task]:
        """The tasks of these names, in the stream's order; other names are left out.

        Takes as long as there are names, however many tasks the stream has.
        """
        wanted = set(names)
        if self._rows is not None:
            return [self[row] for row in sorted(self._rows[each] for each in wanted & self._rows.keys())]
        digits = (name.removeprefix("task-") for name in wanted)
        indices = sorted({int(each) for each in digits if each.isdecimal() and len(each) <= _INDEX_DIGITS})
        return [self[index] for index in indices if index < len(self) and f"task-{index}" in wanted]

    def description(self) -> str:
        """One line for people."""
        return f"{self.name}: {len(self)} tasks, {self.inputs} inputs, up to {self.classes} classes a task"

    def to_json(self) -> dict[str, object]:
        """What a run record must keep to open the same stream again and to know that it is the same."""
        sizes = {"tasks": len(self), "inputs": self.inputs, "classes": self.classes}
        return {"stream": self.name, **sizes, **self._record}


def _warn_of_gaps(tasks: Sequence[Task]) -> None:
    """ClassesWarning where classes below the largest label have no image in any task: labels were hardly meant so."""
    seen = {int(label) for task in tasks for part in (task.train, task.test) for label in part.labels.unique()}
    most = 1 + max(seen, default=-1)
    missing = next((label for label in range(most) if label not in seen), None)
    if missing is not None:
        warnings.warn(
            f"labels: expected images of every class from 0 on, found {len(seen)} labels up to {most - 1} and none "
            f"{missing}; the tasks have {most} classes: number labels from 0, or say `classes={most}`",
            ClassesWarning,
            stacklevel=4,
        )


def _by_name(tasks: Iterable[T] | Mapping[str, T]) -> tuple[tuple[str, ...] | None, Iterable[T]]:
    """The names of tasks, where they come by name, and the tasks; TaskDataError for a name that no mask can have."""
    if not isinstance(tasks, Mapping):
        return None, tasks
    for name in tasks:
        if not is_name(name):
            raise TaskDataError(f"tasks: expected names of masks, such as 'task-0', found {name!r:.80}")
    return tuple(tasks), tasks.values()


def _check_count(values: Any, count: int, what: str, index: int) -> None:
    """TaskDataError unless a task's values are so many."""
    try:
        found = len(values)
    except TypeError:
        raise TaskDataError(f"task {index}: expected {what}, found {type(values).__name__}") from None
    if found != count:
        raise TaskDataError(f"task {index}: expected {what}, found {found}")


def open_stream(
    name: str, *, tasks: int | None = None, seed: int = 0, data: Path | None = None, download: bool = False
) -> TaskStream:
    """The stream `name`, one of `stream_names()`, with its data set loaded into memory (ImageNet: its file names).

    - `permuted-*`: task t sees all images with their pixels permuted, task 0 too; the permutation follows from `seed`
      and t alone. Any number of tasks.
    - `rotated-*`: task t sees all images rotated counter-clockwise by 10 t degrees; up to 36 tasks.
    - `split-*`: task t sees classes of its own, with task-local labels from 0. Of ten classes 2t and 2t + 1, up to 5
      tasks; `split-cifar-100` 5 and `split-imagenet` 10 classes that `seed` draws, up to 20 and 100 tasks.
    - `transformed-*`: up to 16 tasks see all images as stored, turned counter-clockwise by one, two and three quarters,
      and inverted; then mirrored, and all of this combined (`data.transforms`).
    - `patched-*`: task t sees all images cut into 4 x 4 patches, in an order that follows from `seed` and t; task 0
      sees them as stored. Any number of tasks.
    - `*-mnist+fashion-mnist`: the data sets take turns. Task 2 i is task i of MNIST, and task 2 i + 1 is task i of
      Fashion-MNIST. Both are normalised alike. `datasets-mnist+fashion-mnist` shows each as it is stored, in two tasks.

    Args:
        name: a kind of stream over a data set, such as "permuted-mnist".
        tasks: how many tasks; None stands for all there are, and for 10 of `permuted-*`.
        seed: what permutations and classes follow from, 0 <= seed < 2**64.
        data: a folder with the data set's files; None looks in `$MASKSTORE_DATA`, in the user's cache, and where
            Debian puts them. The streams over `digits` need no files.
        download: whether a data set of IDX files that is in none of these is fetched.

    Raises:
        UnknownStreamError: for another name, with the nearest one.
        StreamLengthError: for no task, or for more than the stream has.
        DataNotFoundError, DataFormatError, DownloadError: for files that are missing, damaged or cannot be fetched.

    Examples:
        >>> from supsup_models import open_stream
        >>> stream = open_stream("split-digits", tasks=2)
        >>> task = stream[1]
        >>> task.global_labels, len(task.train), len(task.test)  # images of 2 and 3, labelled 0 and 1
        ((2, 3), 288, 72)
        >>> task.test.images(slice(0, 16)).shape
        torch.Size([16, 64])
    """
    kind, data_set = parse_stream_name(name)
    count = stream_length(name, tasks)
    seed = seed_of("seed", seed)
    data = None if data is None else path_of("data", data)
    classes = classes_per_split(data_set) if kind == "split" else 0
    source: DataSet | ClassFolders
    if data_set == "imagenet":
        source = find_imagenet(data)
        if len(source.names) < count * classes:
            raise StreamLengthError(
                f"{name}: expected {count * classes} classes for {count} tasks, found {len(source.names)} class folders"
            )
        make_task, sha256 = stream_kinds.split_folders(source, seed), dict(source.sha256)
    else:
        names = data_sets_of(data_set)
        sources = [load_data_set(each, data=data, download=download) for each in names]
        sources = stream_kinds.alike(sources) if len(sources) > 1 else sources
        kinds = [stream_kinds.of_kind(kind, each, seed) for each in sources]
        make_task = kinds[0] if len(kinds) == 1 else stream_kinds.TakingTurns(kinds)
        source = sources[0]
        classes = classes or source.classes
        sha256 = dict(source.sha256)
        if len(sources) > 1:
            sha256 = {f"{each.name}/{file}": digest for each in sources for file, digest in each.sha256.items()}
    return TaskStream(
        name,
        make_task,
        tasks=count,
        inputs=source.inputs,
        classes=classes,
        image_shape=source.image_shape,
        record={
            "seed": seed,
            "data_set": data_set,
            "sha256": sha256,
            "mean": plain(source.mean),
            "std": plain(source.std),
        },
    )
