"""Every error and warning that hopfield raises on purpose.

Each error inherits from `HopfieldError` and from the builtin that a caller would expect. Messages are one line: what
was expected, what was found.
"""

from collections.abc import Sequence

from maskstore import errors


class HopfieldError(Exception):
    """Base class of all errors raised by hopfield."""

    def __str__(self) -> str:  # paths and names of strangers are in it
        return errors.printable(str(self.args[0])) if self.args else ""


class PatternError(HopfieldError, ValueError):
    """A pattern, cue or state holds values it must not: not bool or -1/+1, or not finite."""


class DimensionError(HopfieldError, ValueError):
    """A pattern, cue or state has another number of neurons than the memory."""


class RuleError(HopfieldError, ValueError):
    """A rule, memory, schedule or recipe was configured with values it does not take."""


class EntropyError(HopfieldError, ValueError):
    """The entropy that recovery was given is no finite scalar with a gradient by the mask."""


class EmptyMemoryError(HopfieldError, LookupError):
    """The memory holds no pattern yet."""


class NoEnergyError(HopfieldError, TypeError):
    """Couplings that are not symmetric have no energy."""


class ForgetError(HopfieldError, TypeError):
    """This rule cannot take a pattern out again, or the pattern was never stored."""


class StoreError(HopfieldError, ValueError):
    """A pattern could not be stored as the rule promises (its learning did not converge)."""


class MemoryFileError(HopfieldError, ValueError):
    """A file is not a saved memory, is damaged, or holds another kind of memory."""


class MemoryWriteError(HopfieldError, OSError):
    """A memory could not be written: no such folder, no permission, no room."""


class DeviceError(HopfieldError, errors.DeviceError):
    """A device that torch cannot use here."""


class CapacityWarning(UserWarning):
    """A store is about to take the memory beyond the load that its rule holds."""


class LearningWarning(UserWarning):
    """A rule stopped before every pattern was learnt; the couplings hold what it had reached."""


def check_choice(what: str, found: object, known: Sequence[str]) -> None:
    """RuleError unless `found` is one of the names `known`; `what` says what the name is for.

    Examples:
        >>> from hopfield.errors import check_choice
        >>> check_choice("update", "synchronous", ("synchronous", "asynchronous"))
    """
    if found not in known:
        raise RuleError(f"{what}: expected {' or '.join(map(repr, known))}, found {found!r:.60}")
