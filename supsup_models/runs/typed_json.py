"""JSON as typed values: a dataclass says what an object of a file must hold."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

_LARGEST = 3e38  # float32 holds it


def typed(kind: Any, value: Any, name: str) -> Any:
    """A value that `json.loads` gave, as a value of `kind`.

    Args:
        kind: `Any`, a plain type, a union of kinds, `Mapping[str, kind]`, `tuple[kind, ...]` (a list; of numbers, not
            an empty one), or a dataclass (an object with the fields' names and no others; a field with a default may
            be missing).
        value: What the file holds.
        name: Where in the file, for errors.

    Returns:
        The value: lists become tuples, objects become dataclasses, whole numbers become floats where `kind` says so.

    Raises:
        TypeError, ValueError: For a value of another kind, and for a number that float32 cannot hold.
    """
    inner = get_args(kind)
    if kind is Any:
        return value
    if isinstance(kind, UnionType):
        for each in inner:
            with suppress(TypeError):
                return typed(each, value, name)
        raise TypeError(f"{name}: expected {kind}, found {value!r:.40}")
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        given = typed(Mapping[str, Any], value, name)
        if unknown := given.keys() - hints.keys():
            raise TypeError(f"{name}: expected {', '.join(hints)}, found {', '.join(sorted(unknown))[:60]}")
        return kind(**{each: typed(hints[each], item, f"{name}.{each}") for each, item in given.items()})
    if get_origin(kind) is tuple and isinstance(value, list) and (value or inner[0] not in (int, float)):
        return tuple(typed(inner[0], item, name) for item in value)
    if get_origin(kind) is Mapping and isinstance(value, dict):
        return {each: typed(inner[1], item, f"{name}.{each}") for each, item in value.items()}
    if type(value) is not kind and (kind, type(value)) != (float, int):
        expected = kind.__name__ if isinstance(kind, type) else kind
        raise TypeError(f"{name}: expected {expected}, found {value!r:.40}")
    if kind in (int, float) and not abs(value) <= _LARGEST:
        raise ValueError(f"{name}: expected a finite number, found {value!r:.40}")
    return kind(value) if kind is float else value
