"""Names, integers and texts as files hold them, and the hint at the nearest name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore.errors import CorruptError, SpecError, one_line
from maskstore.files import Cursor, check_known, check_name, is_name, nearest, write_leb128


@given(st.lists(st.integers(0, (1 << 63) - 1)))
def test_integers_come_back(values):
    cursor = Cursor(b"".join(map(write_leb128, values)), "integers")
    assert [cursor.leb128() for _ in values] == values
    cursor.end()


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff" * 9, b"\xff" * 9 + b"\x01"])
def test_other_bytes_are_no_integer(data):
    with pytest.raises(CorruptError, match="a place: expected an integer of at most 9 bytes in its shortest form"):
        Cursor(data, "a place").leb128()


def test_a_cursor_names_what_is_missing_and_what_is_left():
    cursor = Cursor(b"ab\xffc", "a text")
    assert (cursor.text(2), cursor.left) == ("ab", 2)
    with pytest.raises(CorruptError, match="a text: expected 3 more bytes, found 2"):
        cursor.take(3)
    with pytest.raises(CorruptError, match="a text: expected 2 bytes, found 4"):
        cursor.end()
    with pytest.raises(CorruptError, match="a text: expected UTF-8"):
        cursor.text(1)


@pytest.mark.parametrize("name", ["a", "é" * 512, "\U0001f9f1", "a\nb"])
def test_names(name):
    assert is_name(name)
    check_name("task name", name)


@pytest.mark.parametrize("name", ["", "a" * 513, "a\0b", "\ud800", "a\udfff", None, 3, b"a"])
def test_what_cannot_be_a_name(name):
    assert not is_name(name)
    with pytest.raises(SpecError, match="task name: expected 1 to 512 characters of valid Unicode without NUL"):
        check_name("task name", name)


@pytest.mark.parametrize(
    ("word", "hint"),
    [("zst", "zstd"), ("ZSTD", "zstd"), ("gapp", "gap"), ("running mean", "running-mean"), ("xyzzy", None), ("", None)],
)
def test_the_nearest_name(word, hint):
    known = ["raw", "zstd", "gap", "running-mean"]
    assert nearest(word, known) == (f", did you mean {hint!r}?" if hint else "")
    with pytest.raises(LookupError, match=r"codec: expected one of raw, zstd, gap, running-mean, found"):
        check_known("codec", word, known, LookupError)


def test_errors_on_one_line():
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError("long " * 100), 9) == "long long"
    assert one_line(ValueError()) == "ValueError"
