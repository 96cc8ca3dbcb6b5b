"""The names of streams and data sets. Imports neither torch nor numpy, so that help and typo checks answer at once."""

from difflib import get_close_matches

from supsup_models.errors import UnknownDataSetError, UnknownStreamError

STREAM_KINDS = ("permuted", "rotated", "split")
DATA_SETS = ("digits", "mnist", "fashion-mnist")


def stream_names() -> tuple[str, ...]:
    """Names that `open_stream` takes: every kind of stream over every data set, such as `permuted-mnist`."""
    return tuple(f"{kind}-{data_set}" for kind in STREAM_KINDS for data_set in DATA_SETS)


def data_set_names() -> tuple[str, ...]:
    """Names that `load_data_set` takes."""
    return DATA_SETS


def parse_stream_name(name: str) -> tuple[str, str]:
    """The kind of stream and the data set in `name`: `"split-fashion-mnist"` gives `("split", "fashion-mnist")`.

    Raises `UnknownStreamError`, which suggests the nearest name and lists them all.
    """
    if name not in stream_names():
        raise UnknownStreamError(f"expected a stream, found {name!r}; {_suggestion(name, stream_names())}")
    kind, _, data_set = name.partition("-")
    return kind, data_set


def check_data_set_name(name: str) -> str:
    """`name` itself if there is such a data set, else `UnknownDataSetError` with the nearest name."""
    if name not in DATA_SETS:
        raise UnknownDataSetError(f"expected a data set, found {name!r}; {_suggestion(name, DATA_SETS)}")
    return name


def _suggestion(name: str, known: tuple[str, ...]) -> str:
    # Case, spaces and underscores are the commonest slips and should not hide a near match.
    cleaned = "-".join(name.lower().replace("_", " ").split())
    nearest = get_close_matches(cleaned, known, n=1)
    listing = f"known: {', '.join(known)}"
    return f"did you mean {nearest[0]!r}? ({listing})" if nearest else listing
