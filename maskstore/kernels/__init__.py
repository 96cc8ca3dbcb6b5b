"""The hot loops over packed masks, twice: `reference` in plain numpy, `dispatch` in Numba; see `README.md`.

`load()` imports Numba on first use only, so that `import maskstore` stays quick. A kernel knows arrays and no masks.
"""

from enum import Enum

from maskstore.kernels.compile_cache import compiled, compiles
from maskstore.kernels.interface import Kernels
from maskstore.kernels.layout import LANES, LINE
from maskstore.kernels.notes import noted

__all__ = [
    "LANES",
    "LINE",
    "Kernel",
    "Kernels",
    "compiled",
    "compiles",
    "cpu_features",
    "has_lookup",
    "ir",
    "layout",
    "load",
    "noted",
    "threads",
]


class Kernel(Enum):
    """Which implementation of the hot loops to use."""

    REFERENCE = "reference"
    NUMBA = "numba"


def load(kernel: Kernel = Kernel.NUMBA) -> Kernels:
    """The implementation of a choice; always the reference where Numba does not compile, which is then noted."""
    if kernel is Kernel.REFERENCE or not compiles():
        from maskstore.kernels import reference

        return reference
    from maskstore.kernels import dispatch

    return dispatch


def has_lookup() -> bool:
    """Whether this processor sums by table lookup, which makes `outer_dots` worth calling for many masks."""
    from maskstore.kernels.ir import lookup

    return compiles() and lookup.available()


def cpu_features() -> frozenset[str]:
    """What this processor has, by LLVM's names, such as "avx512f"."""
    from maskstore.kernels.ir import lookup

    return lookup.cpu_features()
