"""JSON files as typed values: what fits is read back, and every other value is refused with its place."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore.files import decimal_numbers, read_json, typed, write_json


@dataclass(frozen=True)
class Size:
    width: int
    gain: float | tuple[float, ...]
    name: str | None = None


@dataclass(frozen=True)
class Drawing:
    size: Size
    notes: Mapping[str, Any]
    points: tuple[tuple[float, ...], ...] = ()


def drawing(content: Any) -> Drawing:
    found: Drawing = typed(Drawing, content, "drawing")
    return found


@pytest.mark.parametrize(
    "value",
    [
        Drawing(Size(3, 0.5), {}),
        Drawing(Size(3, (0.5, 2.0), "a"), {"any": ["thing", None]}, ((1.0, 2.0), (3.0,))),
    ],
)
def test_what_is_written_is_read_back(value: Drawing, tmp_path: Path) -> None:
    path = tmp_path / "drawing.json"
    write_json(path, asdict(value))
    assert read_json(path, "a drawing", drawing, ValueError) == value
    assert [file.name for file in tmp_path.iterdir()] == ["drawing.json"]


def test_whole_numbers_are_floats_where_floats_are_expected() -> None:
    gain = drawing({"size": {"width": 3, "gain": 1}, "notes": {}}).size.gain
    assert (gain, type(gain)) == (1.0, float)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ({"size": {"width": True, "gain": 1.0}, "notes": {}}, "drawing.size.width: expected int, found True"),
        ({"size": {"width": 3.0, "gain": 1.0}, "notes": {}}, "drawing.size.width: expected int, found 3.0"),
        ({"size": {"width": 10**400, "gain": 1.0}, "notes": {}}, "drawing.size.width: expected a finite number"),
        ({"size": {"width": 3, "gain": float("nan")}, "notes": {}}, "drawing.size.gain: expected a finite number"),
        ({"size": {"width": 3, "gain": []}, "notes": {}}, "drawing.size.gain: expected float or a list"),
        (
            {"size": {"width": 3, "gain": 1.0, "name": 5}, "notes": {}},
            "drawing.size.name: expected str or null, found 5",
        ),
        (
            {"size": {"width": 3, "gain": 1.0, "depth": 5}, "notes": {}},
            "drawing.size: expected width, gain, name, found",
        ),
        ({"size": {"width": 3}, "notes": {}}, "gain"),
        ({"size": {"gain": 1.0}, "notes": {}}, "drawing.size: expected width, gain, found no width"),
        ({"size": 3, "notes": {}}, "drawing.size: expected an object, found 3"),
        ({"size": {"width": 3, "gain": 1.0}, "notes": []}, "drawing.notes: expected an object, found"),
        ({"size": {"width": 3, "gain": 1.0}, "notes": {}, "points": [[]]}, "drawing.points: expected a list"),
    ],
)
def test_other_values_are_refused_with_their_place(content: Any, phrase: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        drawing(content)
    assert phrase in str(raised.value)


def test_a_file_of_another_kind_is_the_callers_error(tmp_path: Path) -> None:
    path = tmp_path / "drawing.json"
    with pytest.raises(FileNotFoundError):
        read_json(path, "a drawing", drawing, LookupError)
    for text in ("", "[1]", "{", '{"size": 1}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(LookupError, match=r"drawing\.json: expected a drawing, found something else"):
            read_json(path, "a drawing", drawing, LookupError)
    path.unlink()
    path.mkdir()
    with pytest.raises(LookupError, match=r"expected a drawing, found a folder$"):
        read_json(path, "a drawing", drawing, LookupError)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(LookupError, match=r"expected a drawing, found a named pipe$"):
        read_json(path, "a drawing", drawing, LookupError)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value_or_become_the_decimal_beside_it(value: float) -> None:
    found = decimal_numbers({"a": [value]})["a"][0]
    assert found == value or (abs(found - value) <= 2e-15 * abs(value) and len(f"{found:.15g}") <= len(f"{value:.17g}"))
    assert decimal_numbers(found) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.9697799999999999, "0.96978"),
        (sum([0.1] * 3), "0.3"),
        (1 / 3, "0.3333333333333333"),
        (True, "true"),
        (None, "null"),
        (10**20, "100000000000000000000"),
        (-0.0, "-0.0"),
        (5e-324, "5e-324"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: Any, said: str) -> None:
    assert json.dumps(decimal_numbers(value)) == said


def test_a_name_stands_once_in_an_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, "b": {"c": 1, "c": 2}}')
    with pytest.raises(
        ValueError, match="expected a record, found something else \\(expected each name once, found 'c' tw"
    ):
        read_json(path, "a record", dict, ValueError)
    path.write_text('{"a": 1, "b": {"a": 1}}')
    assert read_json(path, "a record", dict, ValueError) == {"a": 1, "b": {"a": 1}}
