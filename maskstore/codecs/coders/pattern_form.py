"""The side information of the `pattern` codec, written and read; `docs/format-codecs.md` is normative."""

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.coders.lines import Arrangement, Order
from maskstore.errors import CorruptError
from maskstore.files import Cursor, write_leb128
from maskstore.kernels import compiled
from maskstore.masks import LayerSpec

MOST_DIGITS = 4  # of a class: sixteen classes


class Form(NamedTuple):
    """How a layer is coded: what the side information says."""

    number: int
    """Of the order."""
    arrangement: Arrangement
    group: int
    weights: list[tuple[int, ...]]
    """For each class; the last one, where lines do not end with a byte, is for bytes of two lines."""
    line_classes: NDArray[np.uint8] | None
    """`(lines,)`, None for one class."""

    def write(self, lanes: int) -> bytes:
        """The side information."""
        order, kept_lines, kept_places, tile = self.arrangement
        flags = (
            (lanes > 1) << 4 | (kept_lines is not None) << 5 | (kept_places is not None) << 6 | (tile != (1, 1)) << 7
        )
        out = [bytes([self.number | flags])]
        if tile != (1, 1):
            out += [write_leb128(side) for side in tile]
        for kept, count in ((kept_lines, order.lines), (kept_places, order.places)):
            if kept is not None:
                out.append(np.packbits(np.isin(np.arange(count), kept), bitorder="little").tobytes())
        if self.weights:
            digits = 0 if self.line_classes is None else log_of_classes(len(self.weights))
            out.append(bytes([self.group.bit_length() - 1 | digits << 2]))
            out.append(np.array(self.weights, dtype="<u2").tobytes())
            if self.line_classes is not None:
                planes = self.line_classes[:, None] >> np.arange(digits, dtype=np.uint8) & 1
                out.append(np.packbits(planes, bitorder="little").tobytes())
        return b"".join(out)


def log_of_classes(tables: int) -> int:
    """log2 of the number of classes, given that of tables, which may have one more."""
    return tables.bit_length() - 1


def read(side: bytes, layer: LayerSpec) -> tuple[Form, int]:
    """The form that `Form.write` wrote, and the number of lanes; CorruptError for any other bytes."""
    cursor = Cursor(side, f"layer {layer.name!r}")
    head = cursor.take(1)[0]
    if head & 15 > len(layer.shape):
        raise CorruptError(f"layer {layer.name!r}: expected an order up to {len(layer.shape)}, found {head & 15}")
    order = Order.of(layer.shape, head & 15)
    tile = (cursor.leb128(), cursor.leb128()) if head >> 7 else (1, 1)
    kept = [_kept(cursor, count) if head >> flag & 1 else None for flag, count in ((5, order.lines), (6, order.places))]
    arrangement = Arrangement(order, kept[0], kept[1], tile)
    if bool(head >> 7) != (prod(tile) > 1) or any(
        whole % part for whole, part in zip(arrangement.kept, tile, strict=True)
    ):
        raise CorruptError(f"layer {layer.name!r}: expected tiles of more than a bit that {arrangement.kept} lines and "
                           f"places are made of, found {tile}")  # fmt: skip
    count, places = arrangement.shape
    if not count * places:
        cursor.end()
        return Form(head & 15, arrangement, 1, [], None), 1
    kind = cursor.take(1)[0]
    group, digits = 1 << (kind & 3), kind >> 2
    if digits > MOST_DIGITS:
        raise CorruptError(f"layer {layer.name!r}: expected at most {MOST_DIGITS} digits of a class, found {digits}")
    tables = (1 << digits) + (1 if digits and places % 8 else 0)
    rows = np.frombuffer(cursor.take(2 * tables * (group + 1)), dtype="<u2").reshape(tables, group + 1)
    if not rows.any(axis=1).all():
        raise CorruptError(f"layer {layer.name!r}: expected a weight above 0 in every table, found none")
    classes = _unpacked(cursor, count, digits) if digits else None
    cursor.end()
    return Form(
        head & 15, arrangement, group, [tuple(row) for row in rows.tolist()], classes
    ), 4 if head >> 4 & 1 else 1


def _kept(cursor: Cursor, count: int) -> NDArray[np.int64]:
    """Which of so many lines or places are kept."""
    packed = np.frombuffer(cursor.take((count + 7) // 8), dtype=np.uint8)
    flags = np.unpackbits(packed, bitorder="little")
    if flags[count:].any():
        raise CorruptError(f"{cursor.what}: expected zero bits after {count} flags, found set ones")
    return np.flatnonzero(flags)


def _unpacked(cursor: Cursor, count: int, digits: int) -> NDArray[np.uint8]:
    """The class of each line."""
    flags = np.unpackbits(np.frombuffer(cursor.take((count * digits + 7) // 8), dtype=np.uint8), bitorder="little")
    if flags[count * digits :].any():
        raise CorruptError(f"{cursor.what}: expected zero bits after {count} classes, found set ones")
    planes = flags[: count * digits].reshape(count, digits) << np.arange(digits, dtype=np.uint8)
    classes: NDArray[np.uint8] = planes.sum(axis=1, dtype=np.uint8)
    return classes


@compiled
def _fill_classes(line_classes, places, of_two, out):
    for i in range(out.size):
        first = (8 * i) // places
        last = min((8 * i + 7) // places, line_classes.size - 1)
        out[i] = line_classes[first] if first == last else of_two


def classes_of_bytes(line_classes: NDArray[np.uint8] | None, places: int, size: int, of_two: int) -> NDArray[np.uint8]:
    """The table of each of `size` bytes: its line's, or `of_two` where it has bits of two; `(1,)` for one table."""
    if line_classes is None:
        return np.zeros(1, dtype=np.uint8)
    out = np.empty(size, dtype=np.uint8)
    _fill_classes(line_classes, places, of_two, out)
    return out
