"""The few hot loops over packed masks, twice: `reference` (numpy, obvious) and `cpu` (Numba, fast).

`load(Kernel.NUMBA)` imports Numba on first use only, so that `import maskstore` stays quick. Both modules offer the
same functions with the same arguments; a property test holds them equal.
"""

from enum import Enum
from types import ModuleType

from maskstore.kernels.constants import CHUNK, LANES, LINE


class Kernel(Enum):
    """Which implementation of the hot loops to use."""

    REFERENCE = "reference"
    NUMBA = "numba"


def load(kernel: Kernel = Kernel.NUMBA) -> ModuleType:
    """The module that implements a kernel choice."""
    if kernel is Kernel.REFERENCE:
        from maskstore.kernels import reference

        return reference
    from maskstore.kernels import dispatch as cpu

    return cpu


def has_lookup() -> bool:
    """Whether this processor sums by table lookup, which makes `outer_dots` worth calling for many masks."""
    from maskstore.kernels.ir import lookup

    return lookup.available()


__all__ = ["CHUNK", "LANES", "LINE", "Kernel", "has_lookup", "load", "threads"]
