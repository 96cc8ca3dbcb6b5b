"""What the bank's rows are made of: texts without what they repeat, and the stream of bytes."""

import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstore.bank import byte_stream as stream
from maskstore.bank import sqlite as connection
from maskstore.bank import templates as texts
from maskstore.errors import CorruptError, MaskStoreError, MaskValueError
from maskstore.files import write_leb128

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans(), st.booleans())
def test_texts_come_back_as_they_were(value, ascii, known):
    text = json.dumps(value, ensure_ascii=ascii)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    templates = ["other", texts.split(text)[0]] if known else []
    packed = texts.pack(text, templates)
    assert texts.unpack(packed, templates) == text
    with pytest.raises(CorruptError):
        texts.unpack(packed + b"\0", templates)


@given(st.from_regex(r"-?\d{1,40}(\.\d{1,80})?([eE][+-]?\d{1,9})?", fullmatch=True))
def test_numbers_keep_the_digits_they_were_written_with(literal):
    assert texts.unpack(texts.pack(f"[{literal}]", []), []) == f"[{literal}]"


def test_a_row_of_figures_takes_a_few_bytes():
    text = '{"accuracy":0.937,"loss":0.1327,"seconds":5.02,"n":5}\n{"id":"ans"}\n{"id":"x","seed":0,"task":99}'
    template, numbers = texts.split(text)
    assert numbers == ["0.937", "0.1327", "5.02", "5", "0", "99"]
    assert len(texts.pack(text, [template])) == 1 + 3 + 3 + 3 + 1 + 1 + 1


@given(st.binary(max_size=30), st.lists(st.sampled_from(["[#,#]", '{"a":#}', "", "#" * 50]), max_size=3))
def test_foreign_bytes_are_refused_by_name(data, templates):
    try:
        texts.unpack(data, templates)
    except MaskStoreError:
        return


def test_what_is_not_json_is_refused():
    with pytest.raises(MaskValueError, match="expected JSON"):
        texts.pack("{#}", [])
    assert texts.unpack(texts.pack('{"#":"#\\"#"}', []), []) == '{"#":"#\\"#"}'


@pytest.fixture
def link():
    opened = sqlite3.connect(":memory:", isolation_level=None)
    opened.execute("PRAGMA page_size=512")
    opened.execute(connection.SCHEMA[2])
    yield opened
    opened.close()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_stream_is_a_file_that_forgets(data):
    """Appending, reading, releasing at random, beside a dict of what must be there."""
    link = sqlite3.connect(":memory:", isolation_level=None)
    link.execute("PRAGMA page_size=512")
    link.execute(connection.SCHEMA[2])
    pieces: dict[int, bytes] = {}
    sizes = st.sampled_from([0, 1, 30, 470, 541, 2000, 40_000])
    for step in range(data.draw(st.integers(1, 25))):
        if pieces and data.draw(st.booleans()):
            start = data.draw(st.sampled_from(sorted(pieces)))
            length = len(pieces.pop(start))
            stream.release(link, start, length, lambda *_: sorted((a, a + len(b)) for a, b in pieces.items()))
        else:
            piece = bytes([step]) * data.draw(sizes)
            least, apart = data.draw(st.sampled_from([1, 5000])), data.draw(st.booleans())
            start = stream.append(link, piece, least=least, apart=apart)
            if piece:
                assert start not in pieces
                pieces[start] = piece
        stream.check(link, [(start, len(piece)) for start, piece in pieces.items()])
        for start, piece in pieces.items():
            assert stream.read(link, start, len(piece)) == piece
            middle = len(piece) // 3
            assert stream.read(link, start + middle, len(piece) - 2 * middle) == piece[middle : len(piece) - middle]
    kept = sum(map(len, pieces.values()))
    (stored,) = link.execute("SELECT ifnull(sum(length(data)),0) FROM chunks").fetchone()
    assert stored - stream.dead_bytes(link) == kept
    link.close()


def test_full_chunks_leave_little_beside_their_pages(link):
    for size in (9_000, 14_000, 700, 200, 60, 13_500, 8_888):
        stream.append(link, bytes(size))
    sizes = [size for (size,) in link.execute("SELECT length(data) FROM chunks ORDER BY start")][:-1]
    least = (512 - 12) * 32 // 255 - 23
    assert sizes
    for size in sizes:
        around = 3 + len(write_leb128(12 + 2 * size))
        assert (size + around - least) % (512 - 4) == 0


@pytest.mark.parametrize(
    ("start", "length"),
    [(-1, 5), (0, 101), (100, 1), (1 << 62, 1 << 62), (50, -1), (7, 1 << 40), (1 << 62, (1 << 62) - 1)],
)
def test_places_that_are_not_there_are_refused(link, start, length):
    stream.append(link, bytes(100))
    with pytest.raises(CorruptError):
        stream.read(link, start, length)


@pytest.mark.parametrize("statement", [
    "UPDATE chunks SET dead=1", "UPDATE chunks SET dead=-1", "UPDATE chunks SET dead=NULL",
    "UPDATE chunks SET data=NULL", "UPDATE chunks SET start=start-1",
    "INSERT INTO chunks VALUES(5,0,x'00')", "UPDATE chunks SET data=x''",
    "INSERT INTO chunks VALUES(900,0,x'00')", "DELETE FROM chunks",
])  # fmt: skip
def test_verify_sees_chunks_that_are_not_as_written(link, statement):
    used = [(stream.append(link, bytes(100)), 100)]
    stream.check(link, used)
    link.execute(statement)
    with pytest.raises(CorruptError):
        stream.check(link, used)


def test_two_that_share_a_byte_are_seen(link):
    stream.append(link, bytes(100))
    with pytest.raises(CorruptError, match="share"):
        stream.check(link, [(0, 60), (59, 41)])
