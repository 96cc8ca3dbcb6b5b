"""Products with an array that is mostly one number: only other values are read, from lists, and sums stay in registers.

Row r of the array is a list: its values other than the number, as differences from it, and their places among the
columns. The product with dense rows is the sum over the list of value * dense[place], and the number times the sum of
all dense rows. So a row takes time by the length of its list.
"""

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import LANES
from maskstore.kernels.ir import listed


class Lists:
    """An array `(rows, columns)` of which most is one number, as lists.

    Args:
        starts: Where each row's list begins, and where the last one ends, `(rows + 1,)` int64.
        places: The columns of the values, int32.
        values: The values less the number, float32.
        background: The number.
    """

    def __init__(
        self,
        starts: NDArray[np.int64],
        places: NDArray[np.int32],
        values: NDArray[np.float32],
        background: float = 0.0,
    ) -> None:
        self._starts, self._places, self._values, self._background = starts, places, values, background

    @classmethod
    def of(cls, dense: NDArray[np.float32], background: float = 0.0) -> "Lists":
        """An array in C order, most of whose values are the background."""
        starts, places, values = _room(dense)
        listed.list_values(dense.reshape(-1), dense.shape[1], np.float32(background), starts, places, values)
        return cls(starts, places, values, background)

    @classmethod
    def kept(cls, scores: NDArray[np.float32], threshold: float, signs: NDArray[np.float32]) -> "Lists":
        """The signs where scores reach a threshold, both `(rows, columns)` in C order, and 0 elsewhere."""
        starts, places, values = _room(scores)
        listed.list_kept(
            scores.reshape(-1), scores.shape[1], np.float32(threshold), signs.reshape(-1), starts, places, values
        )
        return cls(starts, places, values)

    def times(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product with `(columns, n)`: `(rows, n)`."""
        wide = whole_vectors(dense)
        out = np.empty((self._starts.size - 1, wide.shape[1]), dtype=np.float32)
        listed.products(self._starts, self._places, self._values, wide.reshape(-1), wide.shape[1], out.reshape(-1))
        found = out[:, : dense.shape[1]]
        if self._background:
            found += self._base(dense)
        return found

    def times_turned(self, dense: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """The product with `(columns, n)`, turned, into `(n, rows)` in C order."""
        wide, lists = whole_vectors(dense), (self._starts, self._places, self._values)
        listed.turned_products(*lists, wide.reshape(-1), wide.shape[1], self._base(dense), out.reshape(-1))

    def transposed_times(self, dense: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
        """The product of the transpose, without its background, with `(rows, n)`: `(columns, n)`."""
        out = np.zeros((columns, dense.shape[1]), dtype=np.float32)
        arrays = self._starts, self._places, self._values, dense.reshape(-1)
        listed.transposed_products(*arrays, dense.shape[1], out.reshape(-1))
        return out

    def _base(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the background adds to every row of the product, `(n,)`."""
        if not self._background:
            return np.zeros(dense.shape[1], dtype=np.float32)
        base: NDArray[np.float32] = dense.sum(axis=0) * np.float32(self._background)
        return base


def _room(array: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Room for the lists of all values and for what fills them up."""
    size = array.size + listed.CHAINS * len(array)
    return np.empty(len(array) + 1, np.int64), np.empty(size, np.int32), np.empty(size, np.float32)


def turned_copy(dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """The transpose of an array in C order, in C order."""
    out = np.empty(dense.shape[::-1], dtype=np.float32)
    listed.turned_copy(dense.reshape(-1), dense.shape[1], np.zeros(LANES, dtype=np.float32), out.reshape(-1))
    return out


def whole_vectors(dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same, at the front of rows of whole vectors, each of which lies in one line of the cache."""
    rows, columns = dense.shape
    wide = -(-columns // LANES) * LANES
    if wide == columns and dense.flags.c_contiguous and not dense.ctypes.data % (4 * LANES):
        return dense
    buffer = np.empty(rows * wide + LANES, dtype=np.float32)
    start = -buffer.ctypes.data // 4 % LANES
    result = buffer[start : start + rows * wide].reshape(rows, wide)
    result[:, :columns], result[:, columns:] = dense, 0.0
    return result
