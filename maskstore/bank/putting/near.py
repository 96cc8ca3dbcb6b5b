"""Which mask a new one is nearly equal to, as far as a sample of their bits tells."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from maskstore.masks import Mask, MaskSpec

_WORDS = 1 << 9  # a mask's sample
_MOST = 64  # masks that are remembered: the last ones
_CHANCE = 12.0  # bits that samples of independent masks share in one of ten thousand pairs
_WORTH = 280.0  # bits that a reference costs, and a little


class NearMasks:
    """Samples of masks that others may be coded against, by name. A mask whose bits seem to tell many of another
    mask's is like it.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Mask
        >>> from maskstore.bank.putting import NearMasks
        >>> rng = np.random.default_rng(0)
        >>> a, b = (Mask.from_dense({"fc1": rng.random((300, 784)) < 0.1}) for _ in range(2))
        >>> flips = Mask.from_dense({"fc1": rng.random((300, 784)) < 0.01})
        >>> near = NearMasks(a.spec)
        >>> near.add("a", a)
        >>> near.like(a ^ flips), near.like(b)
        ('a', '')
    """

    def __init__(self, spec: MaskSpec) -> None:
        count = min(spec.words, _WORDS)
        self._places = np.linspace(0, max(0, spec.words - 1), count).astype(np.int64)
        self._scale = spec.bits / max(1, 64 * count)
        self._names: deque[str] = deque(maxlen=_MOST)
        self._samples: deque[NDArray[np.uint64]] = deque(maxlen=_MOST)

    def add(self, name: str, mask: Mask) -> None:
        """Remember a mask, which needs no other one."""
        self._names.append(name)
        self._samples.append(mask.words[self._places])

    def like(self, mask: Mask, *, name: str = "") -> str:
        """The name of the mask that a mask is most like, another one than `name`; "" if it seems to be like none."""
        if not self._names or not self._places.size:
            return ""
        own, others = mask.words[self._places], np.array(self._samples)
        shared = _shared_bits(own, others)
        shared[[each == name for each in self._names]] = 0.0
        best = int(np.argmax(shared))
        return self._names[best] if shared[best] > _CHANCE and shared[best] * self._scale > _WORTH else ""


def _shared_bits(own: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Mutual information of the bits of a sample `(words,)` and of each of the others `(n, words)`, in bits, `(n,)`."""
    size = 64.0 * own.size
    ones, theirs = float(np.bitwise_count(own).sum()), np.bitwise_count(others).sum(axis=1).astype(np.float64)
    both = np.bitwise_count(own & others).sum(axis=1).astype(np.float64)
    total = np.zeros(len(others))
    for count, row, column in (
        (both, ones, theirs),
        (ones - both, ones, size - theirs),
        (theirs - both, size - ones, theirs),
        (size - ones - theirs + both, size - ones, size - theirs),
    ):
        there = count > 0
        column = column[there]
        total[there] += count[there] * np.log2(count[there] * size / (row * column))
    return total
