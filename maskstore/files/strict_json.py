"""JSON as banks and shards store it: strict both ways.

Python's own reader takes what JSON does not have (NaN, Infinity), what a double cannot hold, and halves of surrogate
pairs, which no file can be written with; each would fail later, far from the file that it came from.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from maskstore.errors import CorruptError, MaskValueError


def encode_meta(meta: Mapping[str, Any]) -> str:
    """Canonical compact JSON; MaskValueError for what JSON cannot hold (NaN too)."""
    try:
        text = json.dumps(dict(meta), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        text.encode()  # an unpaired surrogate is valid in a Python string, but not in a file
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise MaskValueError(f"metadata: expected JSON values, found {error}") from None


def parse_json(text: str) -> Any:
    """JSON from a stored column; CorruptError if it is none."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        if "\\u" in text:  # only an escape can hide half a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError):
        raise CorruptError(f"stored JSON: expected JSON, found {text[:60]!r}") from None


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object from a stored column; CorruptError if it is none."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise CorruptError(f"stored JSON: expected an object, found {text[:60]!r}")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(literal)
    return value
