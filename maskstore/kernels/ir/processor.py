"""What LLVM says about the processor."""

from functools import cache

from llvmlite.binding import get_host_cpu_features


@cache
def cpu_features() -> frozenset[str]:
    """The features that this processor has, by LLVM's names."""
    return frozenset(name for name, there in get_host_cpu_features().items() if there)
