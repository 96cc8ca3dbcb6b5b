"""Images from a data set that many tasks share: rows chosen, columns permuted, pixels normalised, in one pass."""

import numpy as np
from numpy.typing import NDArray

from maskstore.kernels import compiled, compiles


@compiled
def _gather(pixels, rows, columns, values, out):
    for i in range(rows.size):
        row = rows[i]
        for j in range(columns.size):
            out[i, j] = values[pixels[row, columns[j]]]


def gather(
    pixels: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`values[pixels[rows][:, columns]]`: `(N, inputs)`, `(b,)`, `(inputs,)`, `(256,)` -> `(b, inputs)` float32.

    `values` says what each byte stands for. Raises IndexError for a row or column outside the pixels.
    """
    for indices, size in ((rows, len(pixels)), (columns, pixels.shape[1])):
        if indices.size and not (indices.min() >= 0 and indices.max() < size):
            raise IndexError(
                f"index out of range: expected values in [0, {size}), found {indices.min()} to {indices.max()}"
            )
    if not compiles():
        return values[pixels[rows[:, None], columns]]
    out = np.empty((rows.size, columns.size), dtype=np.float32)
    _gather(pixels, rows, columns, values, out)
    return out
