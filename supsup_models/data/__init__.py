"""Data sets and streams of tasks. Names are here at once; what needs torch is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING

from supsup_models.data.names import data_set_names, parse_stream_name, stream_names

if TYPE_CHECKING:
    from supsup_models.data.sets.idx import IdxContent, read_idx
    from supsup_models.data.sets.load import DataSet, load_data_set
    from supsup_models.data.streams import TaskStream, open_stream
    from supsup_models.data.tasks import Split, Task

__all__ = [
    "DataSet",
    "IdxContent",
    "Split",
    "Task",
    "TaskStream",
    "data_set_names",
    "load_data_set",
    "open_stream",
    "parse_stream_name",
    "read_idx",
    "stream_names",
]

_LAZY = {
    "DataSet": "sets.load",
    "IdxContent": "sets.idx",
    "Split": "tasks",
    "Task": "tasks",
    "TaskStream": "streams",
    "load_data_set": "sets.load",
    "open_stream": "streams",
    "read_idx": "sets.idx",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
