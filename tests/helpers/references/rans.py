"""The rANS coder of `docs/format.md` in Python integers: slow, obvious, and what the Numba coder is held against."""

LOW = 1 << 32


def encode(ids: list[int], bits: list[int], p1: list[int], lanes: int) -> list[int]:
    """32-bit words in the order in which the decoder reads them."""
    states, words = [LOW] * lanes, []
    for i in reversed(range(len(bits))):
        ones = p1[ids[i]]
        frequency, start = (ones, 0) if bits[i] else (65536 - ones, ones)
        x = states[i % lanes]
        if x >= frequency << 48:
            words.append(x & 0xFFFFFFFF)
            x >>= 32
        states[i % lanes] = (x // frequency << 16) + x % frequency + start
    for x in reversed(states):
        words += [x >> 32, x & 0xFFFFFFFF]
    return words[::-1]


def decode(ids: list[int], p1: list[int], lanes: int, words: list[int]) -> tuple[list[int], bool]:
    """The bits, and whether the stream ended where its encoder began."""
    states = [words[2 * lane] | words[2 * lane + 1] << 32 for lane in range(lanes)]
    at, bits = 2 * lanes, []
    for i, context in enumerate(ids):
        x, ones = states[i % lanes], p1[context]
        low = x & 0xFFFF
        bits.append(int(low < ones))
        frequency, start = (ones, 0) if low < ones else (65536 - ones, ones)
        x = frequency * (x >> 16) + low - start
        if x < LOW:
            x, at = x << 32 | (words[at] if at < len(words) else 0), at + 1
        states[i % lanes] = x
    return bits, at == len(words) and all(x == LOW for x in states)
