"""The `pattern` codec of `docs/format-codecs.md`, read in Python integers: slow, obvious, the yardstick."""

from collections.abc import Iterator
from math import comb, lcm, prod


def bits_of(data: bytes) -> Iterator[int]:
    """Bits, least significant first."""
    return (byte >> k & 1 for byte in data for k in range(8))


def leb128(data: list[int]) -> int:
    value = shift = 0
    while True:
        byte = data.pop(0)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value


def frequencies(group: int, weights: list[int]) -> list[int]:
    whole = lcm(*(comb(group, ones) for ones in range(group + 1)))
    values = []
    for byte in range(256):
        counts = [(byte >> at & 2**group - 1).bit_count() for at in range(0, 8, group)]
        values.append(prod(weights[ones] * (whole // comb(group, ones)) for ones in counts))
    table = [max(1, value * 65536 // sum(values)) if value else 0 for value in values]
    top = table.index(max(table))
    table[top] += 65536 - sum(table)
    if table[top] == 65536:
        table[top], table[(top + 1) % 256] = 65535, 1
    return table


def decode(side: bytes, payload: bytes, shape: tuple[int, ...]) -> list[int]:
    """The bits of a layer of at least one bit, in C order."""
    size, rest = prod(shape), list(side)
    head = rest.pop(0)
    number = head & 15
    if number:
        n, inner = shape[number - 1], prod(shape[number:])
    else:
        n, inner = size // (shape[0] if len(shape) > 1 else 1), 1
    lines, places = list(range(size // n)), list(range(n))
    tall, wide = (leb128(rest), leb128(rest)) if head & 128 else (1, 1)
    if head & 32:
        flags = bits_of(bytes(rest.pop(0) for _ in range((len(lines) + 7) // 8)))
        lines = [line for line, kept in zip(lines, flags, strict=False) if kept]
    if head & 64:
        flags = bits_of(bytes(rest.pop(0) for _ in range((n + 7) // 8)))
        places = [place for place, kept in zip(places, flags, strict=False) if kept]
    count, width = len(lines) // tall, len(places) // wide
    out = [0] * size
    if not count * width:
        return out
    kind = rest.pop(0)
    group, digits = 2 ** (kind & 3), kind >> 2
    tables = 2**digits + (1 if digits and width % 8 else 0)
    numbers = [rest.pop(0) + 256 * rest.pop(0) for _ in range(tables * (group + 1))]
    table_of = [frequencies(group, numbers[t * (group + 1) : (t + 1) * (group + 1)]) for t in range(tables)]
    flags = list(bits_of(bytes(rest)))
    classes = [sum(flags[line * digits + k] << k for k in range(digits)) for line in range(count)]
    words = [int.from_bytes(payload[at : at + 4], "little") for at in range(0, len(payload), 4)]
    lanes = 4 if head & 16 else 1
    states = [words.pop(0) + 2**32 * words.pop(0) for _ in range(lanes)]
    coded: list[int] = []
    for i in range((count * width + 7) // 8):
        first, last = 8 * i // width, min((8 * i + 7) // width, count - 1)
        table = table_of[classes[first] if first == last else tables - 1]
        lane, low, start, byte = i % lanes, states[i % lanes] % 65536, 0, 0
        while low >= start + table[byte]:
            start, byte = start + table[byte], byte + 1
        states[lane] = table[byte] * (states[lane] // 65536) + low - start
        if states[lane] < 2**32:
            states[lane] = states[lane] * 2**32 + words.pop(0)
        coded += [byte >> k & 1 for k in range(8)]
    assert states == [2**32] * lanes
    assert not words
    for a, line in enumerate(lines):
        for b, place in enumerate(places):
            at = line // inner * n * inner + place * inner + line % inner
            out[at] = coded[a // tall * width + b // wide]
    return out
