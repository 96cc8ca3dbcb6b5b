"""Every error that supsup_models raises on purpose.

Each inherits from `SupSupError`, and from the builtin that a caller would expect. Messages are one line: what was
expected, what was found.
"""


class SupSupError(Exception):
    """Base class of all errors raised by supsup_models."""

    def __str__(self) -> str:  # KeyError would print the repr of its message
        return str(self.args[0]) if self.args else ""


class UnknownNameError(SupSupError, LookupError):
    """No stream, model, recipe, scenario, method or objective of that name."""


class NetworkError(SupSupError, ValueError):
    """A network was asked for with sizes it cannot have."""


class ShapeError(SupSupError, ValueError):
    """Images, labels or a mask do not fit the network they were given to."""


class DataValueError(SupSupError, ValueError):
    """Images hold NaN or infinity, or labels lie outside the classes."""


class InferenceError(SupSupError, ValueError):
    """Task inference was asked for something that cannot be answered."""


class RunError(SupSupError, ValueError):
    """A run's folder does not hold what its record says, or holds another run."""


class DeviceError(SupSupError, RuntimeError):
    """The device asked for is not there."""
