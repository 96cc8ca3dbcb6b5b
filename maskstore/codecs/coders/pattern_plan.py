"""What the `pattern` codec finds in a layer: an order, empty lines and places, tiles, and classes of lines.

A sample tells what is worth looking for; whatever is then used has been seen in all bits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import EncodedLayer, Plan
from maskstore.codecs.coders import byte_rans, lines, pattern_tables
from maskstore.codecs.coders.lines import Arrangement, Order
from maskstore.codecs.coders.pattern_form import Form, classes_of_bytes
from maskstore.codecs.coders.pattern_samples import SAMPLE_LINES, Sample, tile_of
from maskstore.masks import LayerSpec, bits

_SAMPLE_BITS = 1 << 16
_MARGIN = 0.995  # another order than the rows' has to save this much


class Look(NamedTuple):
    """What is worth looking for in a layer."""

    orders: tuple[int, ...]
    """Their numbers."""
    empty: bool
    """Whether lines or places may be empty."""
    tiles: bool
    uneven: bool = False
    """Whether lines have densities of their own."""


ROWS = Look((0,), empty=False, tiles=False)


def look(words: NDArray[np.uint64], layer: LayerSpec) -> Look:
    """What a sample of a layer of at least one bit has."""
    return _looked(*_cheapest(words, layer, _orders_of(layer), _SAMPLE_BITS)[1:])


def _looked(number: int, order: Order, sample: Sample) -> Look:
    count, places = sample.bits.shape
    together = _entropy(sample.ones.sum(keepdims=True), count * places)
    uneven = _entropy(sample.ones, places) + 3 * count < _MARGIN * together
    return Look((number,), sample.has_empty, sample.tile((order.lines, order.places)) != (1, 1), uneven)


def together(looks: Sequence[Look]) -> Look:
    """What any of them has, for one at least."""
    orders = tuple(sorted({number for each in looks for number in each.orders}))
    return Look(orders, *(any(found) for found in zip(*(each[1:] for each in looks), strict=True)))


def plan(words: NDArray[np.uint64], layer: LayerSpec, known: Look | None = None) -> Plan:
    """How `Pattern` codes a layer of at least one bit; its bits are within a few bytes of what it then takes.

    `known`: what is worth looking for, where samples have told it; everything if not given.
    """
    number, arrangement = _arranged(words, layer, known or Look(_orders_of(layer), empty=True, tiles=True))
    found = _planned(words, number, arrangement)
    if arrangement.places is None:
        return found
    # without some of the places, groups of bits are not those of the layer: an N:M mask is cheaper with all of them
    return min(found, _planned(words, number, Arrangement(arrangement.order)), key=lambda one: one.bits)


def _planned(words: NDArray[np.uint64], number: int, arrangement: Arrangement) -> Plan:
    """The plan for bits in an arrangement of the order of this number."""
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


def promise(words: NDArray[np.uint64], layer: LayerSpec) -> tuple[float, Look]:
    """Bits that `Pattern` would take for a layer of at least one bit, as a small sample promises, and what it has."""
    price, number, order, sample = _cheapest(words, layer, _orders_of(layer), _SAMPLE_BITS >> 2)
    return price * order.lines * order.places, _looked(number, order, sample)


def _orders_of(layer: LayerSpec) -> tuple[int, ...]:
    """The numbers of the orders of a layer; of two dimensions, order 2 is order 0."""
    return {0: (0,), 1: (0,), 2: (0, 1)}.get(len(layer.shape), tuple(range(len(layer.shape) + 1)))


def _cheapest(
    words: NDArray[np.uint64], layer: LayerSpec, numbers: Sequence[int], sample_bits: int
) -> tuple[float, int, Order, Sample]:
    """The bits a bit, the number, the order that saves most of a sample's own entropy, and the sample.

    Samples in two orders are of other bits; that one is sparser by chance says nothing about the layer.
    """
    best: tuple[float, tuple[float, int, Order, Sample]] | None = None
    for number in numbers:
        order = Order.of(layer.shape, number)
        sample = Sample.of(words, order, sample_bits)
        price = _price(sample, (order.lines, order.places))
        independent = _entropy(sample.ones.sum(keepdims=True), sample.bits.size) / max(1, sample.bits.size)
        left = price / independent if independent else 1.0
        if best is None or left < _MARGIN * best[0]:
            best = left, (price, number, order, sample)
    assert best is not None
    return best[1]


def _arranged(words: NDArray[np.uint64], layer: LayerSpec, known: Look) -> tuple[int, Arrangement]:
    """The order that a sample is cheapest in, without the empty lines and places, and in tiles where all bits are."""
    if len(known.orders) == 1 and not (known.empty or known.tiles):
        return known.orders[0], Arrangement(Order.of(layer.shape, known.orders[0]))
    _, number, order, sample = _cheapest(words, layer, known.orders, _SAMPLE_BITS)
    arrangement = Arrangement(order)
    if known.empty and sample.has_empty:
        arrangement = _without_empty(words, layer.size, arrangement)
    if not known.tiles or 0 in arrangement.shape:
        return number, arrangement
    kept = arrangement.kept
    height = min(kept[0], SAMPLE_LINES)
    width = min(kept[1], max(1, _SAMPLE_BITS // height))
    first = arrangement._replace(
        lines=np.arange(height) if arrangement.lines is None else arrangement.lines[:height],
        places=np.arange(width) if arrangement.places is None else arrangement.places[:width],
    )
    top = bits.unpack(first.collect(words), height * width).reshape(height, width)
    tile = tile_of(top.view(np.uint8), 0, kept)
    if tile != (1, 1):
        tiled = arrangement._replace(tile=tile)
        again = np.zeros_like(words)
        tiled.spread(tiled.collect(words), again)
        if np.array_equal(again, words):
            return number, tiled
    return number, arrangement


def _price(sample: Sample, whole: tuple[int, int]) -> float:
    """Bits a bit of a sample by the best groups, by a density for each line, by tiles, or without empty lines."""
    count, places = sample.bits.shape
    tall, wide = sample.tile(whole)
    prices: list[float] = pattern_tables.entropies(sample.histogram[None]).tolist()
    prices += [_entropy(sample.ones, places) + 3 * count, prices[0] / (tall * wide)]
    if sample.has_empty:
        inside = int(np.count_nonzero(sample.ones)) * sample.used
        marks = count * places * (1 / whole[0] + 1 / whole[1])
        prices.append(_entropy(sample.ones.sum(keepdims=True), inside) + marks)
    return float(min(prices) / (count * places))


def _entropy(ones: NDArray[np.int64], size: NDArray[np.int64] | int) -> float:
    """Bits of runs of so many bits, each run under its own density."""
    sizes = size if isinstance(size, np.ndarray) else np.array([size])
    return float(
        pattern_tables.sum_of_entropies(ones.astype(np.float64, copy=False), sizes.astype(np.float64, copy=False))
    )


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
