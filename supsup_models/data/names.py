"""The names of streams and data sets. Imports neither torch nor numpy, so that help and typo checks answer at once."""

from maskstore.files import check_known
from supsup_models._names import expect, whole_number
from supsup_models.errors import StreamLengthError, UnknownStreamError

STREAM_KINDS = ("permuted", "rotated", "split", "transformed", "patched", "datasets")
DATA_SETS = ("digits", "mnist", "fashion-mnist", "cifar-100")  # as arrays in memory
ROTATION_STEP = 10  # degrees between a rotated task and the next
TOGETHER = {"mnist+fashion-mnist": ("mnist", "fashion-mnist")}
"""Data sets of one shape, whose tasks take turns in a stream."""

_SPLITS = {  # data sets whose classes are shared out: how many a task has, and how many tasks that makes
    "digits": (2, 5),
    "mnist": (2, 5),
    "fashion-mnist": (2, 5),
    "cifar-100": (5, 20),
    "imagenet": (10, 100),
}
_ONLY_SPLIT = ("cifar-100", "imagenet")  # colour images: nobody permutes or rotates them
_MAX_PERMUTATIONS = 1 << 32  # of one seed: the width of a random stream's number
_DEFAULT_PERMUTATIONS = 10
_TRANSFORMATIONS = 16  # of squares: four turns, mirrored or not, inverted or not


def stream_names() -> tuple[str, ...]:
    """Names that `open_stream` takes: kinds of streams over data sets, such as `permuted-mnist`."""
    return tuple(
        f"{kind}-{data_set}"
        for kind in STREAM_KINDS
        for data_set in (*_SPLITS, *TOGETHER)
        if (kind == "split" or data_set not in _ONLY_SPLIT) and (kind != "datasets" or data_set in TOGETHER)
    )


def data_sets_of(data_set: str) -> tuple[str, ...]:
    """The data sets that a part of a stream's name stands for: one, or those of `TOGETHER`."""
    return TOGETHER.get(data_set, (data_set,))


def parse_stream_name(name: str) -> tuple[str, str]:
    """The kind of stream and the data set in `name`: `"split-fashion-mnist"` gives `("split", "fashion-mnist")`.

    Raises `UnknownStreamError`, which suggests the nearest name and lists them all.
    """
    expect("stream", name, str, "the name of one, a str")
    check_known("stream", name, stream_names(), UnknownStreamError)
    kind, _, data_set = name.partition("-")
    return kind, data_set


def stream_length(name: str, tasks: int | None = None) -> int:
    """How many tasks the stream `name` has if `tasks` are asked for, or if nothing is said.

    Raises `UnknownStreamError`, and `StreamLengthError` for none or for more than it can give.
    """
    kind, data_set = parse_stream_name(name)
    parts = data_sets_of(data_set)
    of_each = {
        "permuted": _MAX_PERMUTATIONS // len(parts),
        "rotated": 360 // ROTATION_STEP,
        "split": _SPLITS[parts[0]][1],
        "transformed": _TRANSFORMATIONS,
        "patched": _MAX_PERMUTATIONS // len(parts),
        "datasets": 1,
    }[kind]
    most = of_each * len(parts)
    default = min(most, _DEFAULT_PERMUTATIONS) if kind in ("permuted", "patched") else most
    count = default if tasks is None else whole_number("tasks", tasks)
    if not 1 <= count <= most:
        raise StreamLengthError(f"{name}: expected 1 to {most} tasks, found {count}")
    return count


def classes_per_split(data_set: str) -> int:
    """How many classes a task of the split stream over a data set has."""
    return _SPLITS[data_sets_of(data_set)[0]][0]
