"""What the `pattern` codec finds in a layer: an order, empty lines and places, tiles, and classes of lines.

A sample tells what is worth looking for; whatever is then used has been seen in all bits.
"""

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import EncodedLayer, Plan
from maskstore.codecs.coders import byte_rans, lines, pattern_tables
from maskstore.codecs.coders.lines import Arrangement, Order
from maskstore.codecs.coders.pattern_form import Form, classes_of_bytes
from maskstore.masks import LayerSpec, bits

_SAMPLE_BITS = 1 << 16
_SAMPLE_LINES = 64
_MARGIN = 0.995  # another order than the rows' has to save this much


def plan(words: NDArray[np.uint64], layer: LayerSpec) -> Plan:
    """How `Pattern` codes a layer of at least one bit; its bits are within a few bytes of what it then takes."""
    number, arrangement = _arranged(words, layer)
    coded = arrangement.collect(words)
    count, places = arrangement.shape
    data = bits.as_bytes(coded)[: (count * places + 7) // 8]
    form, total = _classified(number, arrangement, coded, data)
    lanes = byte_rans.lanes_for(data.size)
    side = form.write(lanes)

    def encode() -> EncodedLayer:
        if not data.size:
            return EncodedLayer(side, b"")
        classes = classes_of_bytes(form.line_classes, places, data.size, len(form.weights) - 1)
        found = pattern_tables.tables(form.group, form.weights)
        return EncodedLayer(side, byte_rans.encode(data, classes, found, lanes, total))

    return Plan(8 * len(side) + total + (16 + 64 * lanes if data.size else 0), encode)


def promise(words: NDArray[np.uint64], layer: LayerSpec) -> float:
    """Bits that `Pattern` would take for a layer of at least one bit, as a small sample promises."""
    price, _, order = _cheapest(words, layer, _SAMPLE_BITS >> 1)
    return price * order.lines * order.places


def _cheapest(words: NDArray[np.uint64], layer: LayerSpec, sample_bits: int) -> tuple[float, int, Order]:
    """The bits a bit, the number, and the order that a sample is cheapest in."""
    dimensions = len(layer.shape)
    numbers = {0: [0], 1: [0], 2: [0, 1]}.get(dimensions, range(dimensions + 1))  # of two, order 2 is order 0
    best: tuple[float, int, Order] | None = None
    for number in numbers:
        order = Order.of(layer.shape, number)
        price = _price(*_sample(words, order, sample_bits), (order.lines, order.places))
        if best is None or price < _MARGIN * best[0]:
            best = price, number, order
    assert best is not None
    return best


def _arranged(words: NDArray[np.uint64], layer: LayerSpec) -> tuple[int, Arrangement]:
    """The order that a sample is cheapest in, without the empty lines and places, and in tiles where all bits are."""
    _, number, order = _cheapest(words, layer, _SAMPLE_BITS)
    arrangement = Arrangement(order)
    if _has_empty(_sample(words, order, _SAMPLE_BITS)[0]):
        arrangement = _without_empty(words, layer.size, arrangement)
    if 0 in arrangement.shape:
        return number, arrangement
    kept = arrangement.kept
    height = min(kept[0], _SAMPLE_LINES)
    width = min(kept[1], max(1, _SAMPLE_BITS // height))
    first = arrangement._replace(
        lines=np.arange(height) if arrangement.lines is None else arrangement.lines[:height],
        places=np.arange(width) if arrangement.places is None else arrangement.places[:width],
    )
    top = bits.unpack(first.collect(words), height * width).reshape(height, width)
    tile = lines.tile_of(top, 0, kept)
    if tile != (1, 1):
        tiled = arrangement._replace(tile=tile)
        again = np.zeros_like(words)
        tiled.spread(tiled.collect(words), again)
        if np.array_equal(again, words):
            return number, tiled
    return number, arrangement


def _sample(words: NDArray[np.uint64], order: Order, most_bits: int) -> tuple[NDArray[np.bool_], int]:
    """Neighbouring lines from the middle, `(lines, places)`, of long lines the first places; and the first line."""
    places = min(order.places, most_bits // _SAMPLE_LINES)
    count = min(order.lines, max(1, most_bits // max(1, places)))
    start = (order.lines - count) // 2 // 8 * 8
    taken = Arrangement(order, np.arange(start, start + count), np.arange(places))
    return bits.unpack(taken.collect(words), count * places).reshape(count, places), start


def _price(sample: NDArray[np.bool_], start: int, whole: tuple[int, int]) -> float:
    """Bits a bit of a sample by the best groups, by a density for each line, by tiles, or without empty lines."""
    histogram = np.bincount(np.packbits(sample, bitorder="little"), minlength=256)
    ones, places = sample.sum(axis=1), sample.shape[1]
    tall, wide = lines.tile_of(sample, start, whole)
    prices = [pattern_tables.entropy(histogram, group) for group in pattern_tables.GROUPS]
    prices += [_entropy(ones, places) + 3 * len(ones), prices[0] / (tall * wide)]
    if _has_empty(sample):
        inside = int(sample.any(axis=1).sum()) * int(sample.any(axis=0).sum())
        prices.append(_entropy(ones.sum(keepdims=True), inside) + sample.size * (1 / whole[0] + 1 / whole[1]))
    return min(prices) / sample.size


def _entropy(ones: NDArray[np.int64], size: NDArray[np.int64] | int) -> float:
    """Bits of runs of so many bits, each run under its own density."""
    share = np.clip(ones / np.maximum(size, 1), 1e-12, 1 - 1e-12)
    return float((size * -(share * np.log2(share) + (1 - share) * np.log2(1 - share))).sum())


def _has_empty(sample: NDArray[np.bool_]) -> bool:
    """Whether more lines or places are empty than chance makes."""
    density = float(sample.mean()) if sample.size else 0.0
    for axis, length in ((1, sample.shape[1]), (0, sample.shape[0])):
        empty = 1 - sample.any(axis=axis).mean()
        if empty > 2 * (1 - density) ** length + 0.01:
            return True
    return False


def _without_empty(words: NDArray[np.uint64], size: int, arrangement: Arrangement) -> Arrangement:
    """Only lines and places with a set bit, where that saves more than it takes to say which they are."""
    order = arrangement.order
    of_lines, of_places = np.zeros(order.lines, dtype=np.bool_), np.zeros(order.places, dtype=np.bool_)
    lines.occupied(words, size, order.places, order.inner, of_lines, of_places)
    ones = np.array([bits.popcount(words)])
    ways: list[tuple[float, Arrangement]] = []
    for drop_lines in (False, True):
        for drop_places in (False, True):
            way = arrangement._replace(
                lines=np.flatnonzero(of_lines) if drop_lines else None,
                places=np.flatnonzero(of_places) if drop_places else None,
            )
            price = _entropy(ones, way.kept[0] * way.kept[1])
            ways.append((price + drop_lines * order.lines + drop_places * order.places, way))
    return min(ways, key=lambda way: way[0])[1]


def _classified(
    number: int, arrangement: Arrangement, coded: NDArray[np.uint64], data: NDArray[np.uint8]
) -> tuple[Form, float]:
    """The form with one class or with as many as save bits, and the bits of the bytes under it."""
    count, places = arrangement.shape
    if not data.size:
        return Form(number, arrangement, 1, [], None), 0.0
    one = np.zeros(1, dtype=np.uint8)
    group, weights, total = pattern_tables.fit(byte_rans.count(data, one, 1))
    best = Form(number, arrangement, group, weights, None), total
    if count > 1 and (by_line := _line_classes(coded, count, places, total)) is not None:
        tables = int(by_line.max()) + 1
        tables = 1 << (tables - 1).bit_length()
        extra = int(places % 8 > 0)
        classes = classes_of_bytes(by_line, places, data.size, tables)
        histograms = byte_rans.count(data, classes, tables + extra)
        group, weights, total = pattern_tables.fit(histograms)
        total_side = total + count * (tables.bit_length() - 1)
        if total_side < best[1]:
            best = Form(number, arrangement, group, weights, by_line), total
    form, total = best
    return form, total - 16 * (form.group + 1) * len(form.weights)


def _line_classes(coded: NDArray[np.uint64], count: int, places: int, one_class: float) -> NDArray[np.uint8] | None:
    """Classes of lines of similar densities, if they save bits."""
    ones = lines.ones_of_lines(coded, count, places)
    angles = np.arcsin(np.sqrt(ones / places))  # equal steps of which are equally well told apart
    low, span = angles.min(), float(angles.max() - angles.min())
    if span == 0:
        return None
    found: tuple[float, NDArray[np.uint8] | None] = one_class, None
    for digits in (1, 2, 4):
        steps = 1 << digits
        classes = np.minimum((angles - low) * (steps / span), steps - 1).astype(np.uint8)
        of_class = np.bincount(classes, weights=ones, minlength=steps)
        price = _entropy(of_class, places * np.bincount(classes, minlength=steps)) + count * digits + 32 * steps
        if price < found[0]:
            found = price, classes
    return found[1]
