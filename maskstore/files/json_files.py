"""JSON files: written whole or not at all, read as typed values, where a dataclass says what an object must hold."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from math import isclose, isfinite
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from maskstore.errors import IrregularFileError
from maskstore.files.atomic import replacing
from maskstore.files.regular import read_regular
from maskstore.files.values import distinct_names

T = TypeVar("T")
_LARGEST = 3e38  # float32 holds it
_ROUNDED_OFF = 2e-15  # of a number: some units in the last place
_DEEPEST = 100  # objects and lists inside one another; what walks through them calls itself once or more for each


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Replace a file by one of this content; MaskStoreError for a place that cannot be written."""
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    with replacing(path, overwrite=True) as scratch:
        scratch.write_text(text, encoding="utf-8")


def decimal_numbers(value: Any) -> Any:
    """A JSON-ready value whose numbers read as people would write them: 0.96978, and not 0.9697799999999999.

    A float that differs from a decimal of twelve digits by no more than arithmetic rounds off becomes that decimal. All
    other values stay as they are, to the last bit. For what people and programs read, not for what must be read back
    exactly.

    Examples:
        >>> from maskstore.files import decimal_numbers
        >>> decimal_numbers({"accuracy": 0.1 + 0.2, "third": 1 / 3, "tasks": [2, 0.9697799999999999]})
        {'accuracy': 0.3, 'third': 0.3333333333333333, 'tasks': [2, 0.96978]}
    """
    if isinstance(value, Mapping):
        return {key: decimal_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [decimal_numbers(each) for each in value]
    if isinstance(value, float) and isclose(value, short := float(f"{value:.12g}"), rel_tol=_ROUNDED_OFF):
        return short
    return value


def read_json(path: Path, what: str, make: Callable[[Any], T], error: Callable[[str], Exception]) -> T:
    """What `make` makes of a file's JSON.

    Args:
        path: The file.
        what: What it should be, for errors.
        make: Raises KeyError, TypeError, ValueError or AttributeError for other content. It gets no number that is not
            finite, no object with a name twice, and nothing nested more than 100 deep.
        error: Makes the error to raise from its text.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such file.
        Exception: From `error`, for a file that cannot be read or is something else.
    """
    try:
        text = read_regular(path, what=what).decode()
        content = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=distinct_names)
        _check_depth(content)
        return make(content)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except IrregularFileError as failure:
        raise error(str(failure)) from None
    except OSError as failure:
        raise error(f"{path}: expected {what}, found no such file to read: {failure.strerror}") from failure
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise error(f"{path}: expected {what}, found something else ({_reason(failure)})") from failure


def _reason(failure: Exception) -> str:
    """What is wrong with a file's content, on one line and in our words."""
    match failure:
        case json.JSONDecodeError():
            return f"no JSON from line {failure.lineno}, column {failure.colno} on"
        case UnicodeDecodeError():
            return f"no UTF-8 from byte {failure.start} on"
        case KeyError():
            return f"no {failure.args[0]!r:.60} in it"
        case RecursionError():
            return _TOO_DEEP
        case _:
            return " ".join(str(failure).split())[:300]


_TOO_DEEP = f"objects and lists nested more than {_DEEPEST} deep"


def _check_depth(content: Any) -> None:
    """ValueError for objects and lists nested too deeply."""
    level = [content]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise ValueError(_TOO_DEEP)


def _refuse(constant: str) -> float:
    raise ValueError(f"expected a finite number, found {constant}")


def _finite(literal: str) -> float:
    value = float(literal)
    return value if isfinite(value) else _refuse(f"{literal:.40}")


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
        raise TypeError(f"{name}: expected {' or '.join(map(_said, inner))}, found {value!r:.40}")
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        given = typed(Mapping[str, Any], value, name)
        if unknown := given.keys() - hints.keys():
            raise TypeError(f"{name}: expected {', '.join(hints)}, found {', '.join(sorted(unknown))[:60]}")
        needed = [each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
        if missing := [each for each in needed if each not in given]:
            raise TypeError(f"{name}: expected {', '.join(needed)}, found no {', '.join(missing)[:60]}")
        return kind(**{each: typed(hints[each], item, f"{name}.{each}") for each, item in given.items()})
    if get_origin(kind) is tuple and isinstance(value, list) and (value or inner[0] not in (int, float)):
        return tuple(typed(inner[0], item, name) for item in value)
    if get_origin(kind) is Mapping and isinstance(value, dict):
        return {each: typed(inner[1], item, f"{name}.{each}") for each, item in value.items()}
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise TypeError(f"{name}: expected {_said(kind)}, found {value!r:.40}")
    if kind in (int, float) and not abs(value) <= _LARGEST:
        raise ValueError(f"{name}: expected a finite number, found {value!r:.40}")
    return kind(value) if kind is float else value


def _said(kind: Any) -> str:
    """What a kind is called in an error, in JSON's words."""
    named = {type(None): "null", Mapping: "an object", tuple: "a list"}
    return named.get(get_origin(kind) or kind) or str(getattr(kind, "__name__", kind))
