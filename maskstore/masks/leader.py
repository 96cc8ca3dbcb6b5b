"""The mask whose inner product with an array is the largest, found without reading all bits of all masks.

The product of g with mask i is a sum over places, x_i = sum_j g_j m_ij. Of many masks, one often stands out: its bits
lean towards the signs of g at all places, a little at each. So a few chunks of 32 places are enough to tell which masks
may be the one, and only these are read to the end.

**What is read.** Chunks in the order of their sum of |g|; of all masks the first part, of those that look good a longer
one. Read is not a part of x_i but y_i = sum of h_j m_ij over the places, h = sign(g) sqrt(|g|). A mask that leans
towards the signs of g stands out from the spread of the others further in y than in x, because few large values of g
add less to the spread. Let x* be the largest product that is known exactly, m and s the mean and the standard deviation
of y among the masks, and D = x* - sum of g_j p_j how much x* stands out, where p_j is the share of the masks that have
bit j set. A mask is given up where two things are unlikely:

1. *It leans, and is better than x*.* If bit j is set with probability p_j + theta sign(g_j), then x_i is expected at
   x* or above only for theta >= D / sum |g|, and y_i at m + theta sum |h| or above, by a sum over the places read. A
   sum as low as y_i has a chance of at most

       exp(-((1 - c) d - (y_i - m))² / (2 s²)),    d = sum |h| D / sum |g|,

   if sums of the bits' deviations are sub-Gaussian with variance s². The chance counts once, for the largest y_i that
   is given up: only one mask is the best. c = 0.15 is a margin for masks that lean unevenly.
2. *It does not lean, and is better than x* by chance.* Its x_i is then expected at e_i = sum g_j p_j + b (y_i - m),
   with the slope b that independent bits have, and by the same inequality x_i >= x* has a chance of at most

       exp(-(x* - e_i)² / (2 r²)),

   where r² is the variance of x_i - e_i. These chances are summed over all masks that are given up.

As many masks are given up as the sum of 1. and 2. stays below `error`; by the union bound, that is the most with which
the answer is another than the exact one. (Proof sketch of the inequality: for a sum Y of mean 0 that is sub-Gaussian,
E exp(u Y) <= exp(u² s² / 2); Markov's inequality for exp(u Y) with u = t / s² gives P(Y >= t) <= exp(-t² / (2 s²)). For
independent bits this is Hoeffding's inequality, with a variance of at most a quarter of the sum of squares.)

**What it assumes.** Bits of trained masks are not quite independent, so variances are measured. s is measured among all
masks at the first level. At the second it is what independent bits would have, times the largest ratio of measured to
independent seen at the first level and in a sample of masks that is read to the end. r² is the mean square of x_i - e_i
in the sample without its best mask, times n / q, where q is the quantile `error` of the chi-squared distribution of n
degrees: an upper limit with probability 1 - `error` for normal sums. If x* does not stand out, nothing is given up and
all masks are read. `pytest benchmarks/ -k leader` counts how often answers differ from the exact ones.

**Masks in a file.** The system keeps in memory what of a mapped file was read lately, if it fits. Which chunks have
the largest |g| differs between two calls: the tenths of sixteen images are together two thirds of all chunks. So both
levels take their chunks from the fifth where |g| is usually large, which is the same for all calls: the first level
those of the fifth where |g| is largest, the second all of the fifth. Where many masks are left then, a third level adds
the tenth of the other chunks with the largest |g|. The bound holds for any chunks that do not depend on the masks. To
the end, each mask is read in one piece, since else a page is read for each of its chunks.

Source: Hoeffding, "Probability inequalities for sums of bounded random variables", 1963; Boucheron, Lugosi and Massart,
"Concentration inequalities", 2013, chapter 2. To give up what cannot be the best any more: Even-Dar, Mannor and
Mansour, "Action elimination", JMLR 7, 2006.
"""

from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskstore import kernels
from maskstore.kernels import layout
from maskstore.masks.spec import MaskSpec

FEWEST = 128
"""Below so many masks all bits are read: there is not enough to gain."""
READ_WHOLE = 400_000_000
"""Bits of all masks that are read in less time than a search takes."""
_PARTS = 10  # each level adds such a part of the chunks
_STAYS = 5  # such a part of a file is what both first levels choose from
_LISTED = 64  # of so many masks one is read to the second level at first
_FINALISTS = 2  # of those, to the end
_ALONE = 16  # more than one mask in so many: to read all side by side is faster than each alone
_TO_THE_END = 5  # the same for all bits
_WHOLE = 8  # masks of a file that are read to the end first
_PAGES = 20  # of a file, one mask in so many is read in one piece as fast as a level of all masks elsewhere in it
IN_ONE_PIECE = 64
"""So many masks of a file are read in one piece each, even if not all of their bits are wanted."""
_SAMPLES = ((4096, 64), (0, 32))  # from so many masks on, so many are the sample: whole blocks
_MARGIN = 0.15


@dataclass(frozen=True)
class Leader:
    """The mask whose inner product with an array is the largest.

    Attributes:
        row: Its row.
        products: The inner products of all masks, `(k,)` float32; expected ones where they are not `exact`.
        exact: Which of them were computed from all bits, `(k,)`.
        share: How much was read, as a share of all masks' bits; above 1 where reading a part was in vain.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Mask, MaskMatrix, MaskSpec
        >>> matrix = MaskMatrix(MaskSpec({"fc": (4, 64)}))
        >>> for row in range(3):
        ...     matrix.append(f"task-{row}", Mask.from_dense({"fc": np.arange(256).reshape(4, 64) % 3 == row}))
        >>> g = (np.arange(256) % 3 == 2).astype(np.float32)
        >>> leader = matrix.leader(g, error=0)
        >>> leader.row, leader.products.tolist(), bool(leader.exact.all())
        (2, [0.0, 0.0, 85.0], True)
    """

    row: int
    products: NDArray[np.float32]
    exact: NDArray[np.bool_]
    share: float


class Chunks(Protocol):
    """Masks that can be read in parts."""

    by_page: bool
    """Whether they are read from a file by the page, in which each mask also lies in one piece."""

    def __len__(self) -> int:
        """How many masks there are."""

    def dot_chunks(
        self, places: NDArray[np.int64], values: NDArray[np.float32], chosen: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """What `maskstore.kernels.Kernels.dot_chunks` gives, of all masks or of chosen ones."""

    def products(self, g: NDArray[np.float32], chosen: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Inner products from all bits, of all masks or of chosen ones."""


@dataclass(frozen=True)
class ChunkMap:
    """Where the chunks of a spec have their bits: chunk c holds `sizes[c]` flat places from `starts[c]` on."""

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, spec: MaskSpec) -> "ChunkMap":
        """Of the layers of a spec; what pads a layer to whole words has no places."""
        starts, sizes = np.zeros(2 * spec.words, dtype=np.int64), np.zeros(2 * spec.words, dtype=np.int64)
        for layer in spec:
            first, count = 2 * layer.word_start, -(-layer.size // layout.CHUNK)
            offsets = layout.CHUNK * np.arange(count)
            starts[first : first + count] = layer.flat_start + offsets
            sizes[first : first + count] = np.minimum(layout.CHUNK, layer.size - offsets)
        return cls(starts, sizes)

    def values(self, g: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The values of g in some chunks, `(32 n,)`; zero where a chunk has no bit."""
        offsets = np.arange(layout.CHUNK)
        flat = np.minimum(self.starts[places, None] + offsets, len(g) - 1)
        found: NDArray[np.float32] = np.where(offsets < self.sizes[places, None], g[flat], np.float32(0))
        return found.reshape(-1)


@dataclass(frozen=True)
class _Level:
    """What is known when the first so many chunks have been read; the numbers but `places` and `h` are sums."""

    places: NDArray[np.int64]  # those that this level adds
    h: NDArray[np.float32]
    size: float  # sum |h|
    mean: float  # of y, sum h p
    variance: float  # of y for independent bits, sum h² p (1 - p)
    covariance: float  # of x and y for independent bits, sum g h p (1 - p)


class _Race:
    """Masks that have been read to different levels: 0, 1, ..., and `known` for those whose product is known."""

    def __init__(
        self, chunks: Chunks, g: NDArray[np.float32], facts: NDArray[np.float64], levels: list[_Level], total: int
    ) -> None:
        self._chunks, self._g, self._levels, self._total = chunks, g, levels, total
        self._mean, self._size = float(facts[4].sum()), float(facts[0].sum())
        self.known = len(levels)
        self.y = chunks.dot_chunks(levels[0].places, levels[0].h)
        self.level = np.zeros(len(self.y), dtype=np.int64)
        self.x = np.zeros(len(self.y), dtype=np.float32)
        self.read = len(self.y) * len(levels[0].places)
        self._slope = np.array([one.covariance / one.variance if one.variance > 0 else 0.0 for one in levels])

    def take_sample(self, error: float) -> None:
        """Read the sample to the end, and see in it by how much variances are larger than those of independent bits."""
        blocks, levels = len(self.y) // layout.LANES, self._levels
        wanted = next(number for masks, number in _SAMPLES if len(self.y) >= masks) // layout.LANES
        first = layout.LANES * np.linspace(0, blocks - 1, wanted).astype(np.int64)
        sample = (first[:, None] + np.arange(layout.LANES)).reshape(-1)
        y = [self.y[sample]]
        for level in levels[1:]:
            y.append(y[-1] + self._chunks.dot_chunks(level.places, level.h, sample))
        self.finish(sample)
        others = sample != sample[self.x[sample].argmax()]  # the best of the sample may be the one that stands out
        ratios, residuals = [1.0, float(self.y.var()) / levels[0].variance if levels[0].variance > 0 else 1.0], []
        for known, level, slope in zip(y, levels, self._slope, strict=True):
            away = (known - level.mean)[others]
            if level.variance > 0:
                ratios.append(float((away**2).mean()) / level.variance)
            residuals.append(float(((self.x[sample][others] - self._mean - slope * away) ** 2).mean()))
        self._spread = [float(self.y.var()), *(max(ratios) * level.variance for level in levels[1:])]
        self._residual = [_upper_ratio(int(others.sum()), error) * residual for residual in residuals]

    @property
    def expected(self) -> NDArray[np.float64]:
        """The products, those that are not known by the slope."""
        level = np.minimum(self.level, self.known - 1)
        means = np.array([one.mean for one in self._levels])
        return np.where(self.level == self.known, self.x, self._mean + self._slope[level] * (self.y - means[level]))

    def look_further(self, level: int, masks: NDArray[np.int64]) -> None:
        """Read some masks of a level to the next one."""
        more = self._levels[level + 1]
        together = len(masks) * _ALONE > len(self.y)
        found = self._chunks.dot_chunks(more.places, more.h, None if together else masks)
        self.y[masks] += found[masks] if together else found
        self.level[masks] = level + 1
        self.read += (len(self.y) if together else len(masks)) * len(more.places)

    def finish(self, masks: NDArray[np.int64]) -> None:
        """Read some masks to the end."""
        self.x[masks] = self._chunks.products(self._g, masks)
        self.level[masks] = self.known
        self.read += len(masks) * self._total

    def finish_best(self, level: int, number: int) -> None:
        """Read to the end, of the masks of a level, so many that look best."""
        self.finish(self.best(level, number))

    def best(self, level: int, number: int) -> NDArray[np.int64]:
        """Of the masks of a level, so many that look best."""
        masks = np.flatnonzero(self.level == level)
        if number >= len(masks):
            return masks
        return masks[np.argpartition(self.y[masks], len(masks) - number)[len(masks) - number :]]

    def left(self, error: float) -> NDArray[np.int64]:
        """The masks that may not be given up."""
        best = float(self.x[self.level == self.known].max())
        lean, chance = np.zeros(len(self.y)), np.zeros(len(self.y))
        expected = self.expected
        for number, level in enumerate(self._levels):
            at = self.level == number
            due = (1.0 - _MARGIN) * level.size * max(best - self._mean, 0.0) / self._size if self._size else 0.0
            lean[at] = _tail(due - (self.y[at] - level.mean), self._spread[number])
            chance[at] = _tail(best - expected[at], self._residual[number])
        order = np.argsort(np.maximum(lean, chance))
        total = np.cumsum(chance[order]) + np.maximum.accumulate(lean[order])
        unknown = self.level[order] < self.known
        return order[(total > error) & unknown]


def _tail(gap: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    """exp(-gap² / (2 variance)), and 1 below a gap of 0."""
    gap = np.maximum(gap, 0.0)
    return np.exp(-(gap**2) / (2.0 * variance)) if variance > 0 else (gap == 0).astype(np.float64)


def _upper_ratio(n: int, error: float) -> float:
    """n over the quantile `error` of the chi-squared distribution of n degrees (Wilson and Hilferty's formula)."""
    part = 2.0 / (9.0 * n)
    return float(max(1.0 - part + NormalDist().inv_cdf(error) * part**0.5, 0.1) ** -3)


def find_leader(
    chunks: Chunks,
    chunk_map: ChunkMap,
    mean: NDArray[np.float32],
    g: NDArray[np.float32],
    error: float,
    usual: NDArray[np.float32] | None = None,
) -> Leader:
    """The leader among masks of mean `mean`, see the module; `usual` is what `MaskMatrix.leader` says."""
    count, total = len(chunks), len(chunk_map.starts)
    if not error or count < FEWEST or total < _PARTS or count * total * layout.CHUNK < READ_WHOLE:
        return _of_all(chunks.products(g), 1.0)
    facts = kernels.load().chunk_facts(g, mean, chunk_map.starts, chunk_map.sizes)
    anywhere = np.ones(total, dtype=np.bool_)
    allowed = [anywhere, anywhere]
    if chunks.by_page:
        often = facts[0]
        if usual is not None:
            often = kernels.load().chunk_facts(usual, mean, chunk_map.starts, chunk_map.sizes)[0]
        stays = np.zeros(total, dtype=np.bool_)
        stays[np.argpartition(-often, total // _STAYS)[: total // _STAYS]] = True
        allowed = [stays, stays, anywhere]
    levels = _levels(chunk_map, facts, g, allowed)
    race, last = _Race(chunks, g, facts, levels, total), len(levels) - 1
    race.take_sample(error)
    if chunks.by_page:
        race.finish_best(0, _WHOLE)
    else:
        race.look_further(0, race.best(0, max(_FINALISTS, count // _LISTED)))
        race.finish_best(1, _FINALISTS)
    while len(left := race.left(error)):
        of_level = [left[race.level[left] == level] for level in range(last + 1)]
        if len(of_level[last]) * _TO_THE_END > count:
            every = np.arange(total)
            products = chunks.dot_chunks(every, chunk_map.values(g, every)).astype(np.float32)
            return _of_all(products, 1.0 + race.read / (count * total))
        for level in range(last, -1, -1):
            whole = 0 if not chunks.by_page else max(IN_ONE_PIECE, count // _PAGES if level else 0)
            if level == last or len(of_level[level]) <= whole:
                race.finish(of_level[level])
            else:
                race.look_further(level, of_level[level])
        for level in range(1, last + 1):
            race.finish_best(level, _FINALISTS)
    known = race.level == race.known
    row = int(np.flatnonzero(known)[np.argmax(race.x[known])])
    return Leader(row, race.expected.astype(np.float32), known, race.read / (count * total))


def _of_all(products: NDArray[np.float32], share: float) -> Leader:
    return Leader(int(np.argmax(products)), products, np.ones(len(products), dtype=np.bool_), share)


def _levels(
    chunk_map: ChunkMap, facts: NDArray[np.float64], g: NDArray[np.float32], allowed: list[NDArray[np.bool_]]
) -> list[_Level]:
    """A level for each choice of chunks that it may add."""
    count = facts.shape[1]
    ends = [0, *(count * (place + 1) // _PARTS for place in range(len(allowed)))]
    order, sizes = np.zeros(0, dtype=np.int64), facts[0].copy()
    levels = []
    for some, (first, last) in zip(allowed, pairwise(ends), strict=True):
        open_ones = np.where(some, sizes, -1.0)
        places = np.sort(np.argpartition(-open_ones, last - first)[: last - first])  # read from front to back
        order = np.concatenate([order, places])
        sizes[places] = -1.0
        values = chunk_map.values(g, places)
        sums = (float(one[order].sum()) for one in facts[[1, 5, 2, 3]])
        levels.append(_Level(places, np.sign(values) * np.sqrt(np.abs(values)), *sums))
    return levels
