"""Arrays rounded to multiples of a step, with a bounded error."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import MaskValueError
from maskstore.masks import bits

KINDS = ("i1", "i2", "i4")
"""The dtypes of the multiples."""
LEAST_STEP, MOST_STEP = 1e-30, 1e30  # multiples are float32


class Rounded:
    """An array that a bank keeps with a bounded error, in fewer bytes: `extras={"bias": Rounded(bias, 1e-3)}`.

    Values become multiples of twice the error, and these whole numbers are compressed. `bank.extras(name)` gives
    float32.

    Args:
        values: Finite numbers, an array or a tensor.
        error: The most by which a value may change, above 0. Beside it counts the rounding to float32.

    Attributes:
        step: Twice the error.
        integers: The values as multiples of the step, as int8, int16 or int32, whichever is the smallest that fits.

    Raises:
        MaskValueError: Values that are not finite numbers, or more than 2**31 - 1 steps large; an error that is none.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Rounded
        >>> rounded = Rounded(np.array([0.1, -0.26, 0.0]), error=0.05)
        >>> rounded.integers, rounded.values
        (array([ 1, -3,  0], dtype=int8), array([ 0.1, -0.3,  0. ], dtype=float32))
    """

    def __init__(self, values: Any, error: float) -> None:
        array = bits.as_numpy(values, "rounded array")
        if array.dtype.kind not in "fiub":
            raise MaskValueError(f"rounded array: expected numbers, found dtype {array.dtype}")
        self.step = 2.0 * float(error)
        if not LEAST_STEP <= self.step <= MOST_STEP:
            raise MaskValueError(f"rounded array: expected an error from 1e-30 to 1e29, found {error}")
        quotients = np.rint(array.astype(np.float64) / self.step)
        largest = float(np.abs(quotients).max(initial=0.0))
        fitting = [kind for kind in KINDS if largest <= np.iinfo(kind).max]
        if not fitting:
            raise MaskValueError(f"rounded array: expected finite values below 2**31 steps, found {largest:.4g} steps")
        self.integers = quotients.astype("<" + fitting[0])

    @property
    def values(self) -> NDArray[np.float32]:
        """What a bank gives back."""
        return multiples(self.integers, self.step)

    def __repr__(self) -> str:
        return f"Rounded({self.integers.shape} to multiples of {self.step:.4g})"


def multiples(integers: NDArray[Any], step: float) -> NDArray[np.float32]:
    """The values of whole numbers of steps."""
    values: NDArray[np.float32] = (integers.astype(np.float64) * step).astype(np.float32)
    return values
