"""Counter-based random bits from a seed: the same on every machine, device and version.

The stream is that of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as numpy's
`Philox` bit generator gives it raw. Only raw words are used; every conversion is fixed here and in `docs/format.md`
("Seeded streams"), and pinned by golden values in the tests. An address is (seed, role, layer, stream, position):

    key[0] = seed                                    key[1] = role << 56 | layer << 32 | stream
    counter of the first block = 1, then 2, 3, ...   each block gives four 64-bit words
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import CodecError


class Role(IntEnum):
    """What a stream of random bits is used for; two roles never share bits. Numbers are part of the format."""

    WEIGHT_SIGN = 0
    SCORE = 1
    PERMUTATION = 2
    BATCH_ORDER = 3
    SPLIT = 4
    INIT = 5
    SAMPLE = 6
    AUGMENT = 7
    SHUFFLE = 8
    VIEW = 9
    FEATURE = 10


_LIMITS = (("seed", 64), ("role", 8), ("layer", 24), ("stream", 32))


def address_key(seed: int, role: int, layer: int, stream: int) -> tuple[int, int]:
    """The cipher's key for an address; CodecError for a part that is out of range."""
    for (name, bits), value in zip(_LIMITS, (seed, role, layer, stream), strict=True):
        if not hasattr(value, "__index__") or not 0 <= value < 1 << bits:
            raise CodecError(f"{name} of a random stream: expected an integer in [0, 2**{bits}), found {value}")
    return seed, role << 56 | layer << 32 | stream


def random_words(
    seed: int, role: int, count: int, *, layer: int = 0, stream: int = 0, start: int = 0
) -> NDArray[np.uint64]:
    """`count` raw 64-bit words of a stream, from word `start`; shape `(count,)`, dtype uint64."""
    skip = start % 4
    key = np.array(address_key(seed, role, layer, stream), dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=start // 4).random_raw(count + skip)
    return np.asarray(raw, dtype=np.uint64)[skip:]


def random_uint32(seed: int, role: int, count: int, *, layer: int = 0, stream: int = 0) -> NDArray[np.uint32]:
    """`count` 32-bit integers, shape `(count,)`: position p is half p mod 2 (low half first) of word p div 2."""
    words = random_words(seed, role, (count + 1) // 2, layer=layer, stream=stream)
    return words.astype("<u8", copy=False).view("<u4")[:count].astype(np.uint32, copy=False)


def random_uniform(seed: int, role: int, count: int, *, layer: int = 0, stream: int = 0) -> NDArray[np.float64]:
    """`count` floats in the open interval (-1, 1), shape `(count,)`: (2u + 1 - 2**32) / 2**32 of the 32-bit integers u.

    Exact in float64, symmetric about zero and never zero, so that the sign is always defined.
    """
    integers = random_uint32(seed, role, count, layer=layer, stream=stream).astype(np.float64)
    return (2.0 * integers + (1.0 - 2.0**32)) / 2.0**32


def random_permutation(seed: int, role: int, count: int, *, layer: int = 0, stream: int = 0) -> NDArray[np.int64]:
    """A permutation of `range(count)`, shape `(count,)`: the stable sorting order of `count` random 64-bit words."""
    return np.argsort(random_words(seed, role, count, layer=layer, stream=stream), kind="stable")


def random_packed_bits(
    seed: int, role: int, count: int, *, layer: int = 0, stream: int = 0, start: int = 0
) -> NDArray[np.uint64]:
    """`count` random bits packed like a mask layer, shape `(ceil(count / 64),)`, uint64; padding bits are zero.

    `start`: from this bit on, a multiple of 64.
    """
    words = random_words(seed, role, (count + 63) // 64, layer=layer, stream=stream, start=start // 64)
    if count % 64:
        words[-1] &= np.uint64((1 << count % 64) - 1)
    return words
