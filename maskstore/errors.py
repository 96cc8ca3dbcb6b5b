"""The errors that maskstore raises on purpose.

Each inherits from `MaskStoreError`, and from the builtin that a caller would expect: both `except MaskStoreError` and,
say, `except KeyError` work. A message is one line: what was expected, what was found.

Examples:
    >>> import tempfile
    >>> from maskstore import MaskBank, MaskSpec, errors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec({"fc1": (4, 4)})) as bank:
    ...         bank.put("task-0", {"fc1": [[1, 0, 0, 1]] * 4})
    ...         try:
    ...             bank["task-1"]
    ...         except errors.TaskNotFoundError as error:
    ...             print(isinstance(error, KeyError), str(error).rpartition(", ")[2])
    True did you mean 'task-0'?
"""

from collections.abc import Iterator
from contextlib import contextmanager


class MaskStoreError(Exception):
    """Base class of all errors raised by maskstore."""

    def __str__(self) -> str:  # KeyError would print the repr of its message, and names of strangers are in it
        return printable(str(self.args[0])) if self.args else ""


def one_line(error: BaseException, limit: int = 160) -> str:
    """The first `limit` characters of what an error says, on one line; its type if it says nothing.

    Examples:
        >>> from maskstore.errors import one_line
        >>> one_line(ValueError("expected 3 rows,  found 4"))
        'expected 3 rows, found 4'
    """
    return " ".join(str(error).split())[:limit] or type(error).__name__


def printable(text: str) -> str:
    """Text with what is not printable escaped: a name from a stranger's file must not steer the terminal.

    Control characters, marks that turn the direction of writing and halves of surrogate pairs are not printable.

    Examples:
        >>> from maskstore.errors import printable
        >>> printable("task\x1b[2J é")
        'task\\\\x1b[2J é'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_EXTRAS = {
    "models": ("torch", "matplotlib"),
    "cluster": ("ray",),
    "interop": ("safetensors", "fsspec", "numcodecs"),
    "stores": ("obstore",),
    "hub": ("huggingface_hub",),
    "lightning": ("lightning",),
}
"""This project's extras, and the packages in them that only some uses need."""


@contextmanager
def needing(package: str, what: object) -> Iterator[None]:
    """Around the import of an optional package: MissingPackageError if it is not installed.

    Args:
        package: the package's name.
        what: what it is needed for: the message begins with it.

    Examples:
        >>> from maskstore.errors import MissingPackageError, needing
        >>> try:
        ...     with needing("no_such_package", "tasks.xyz"):
        ...         import no_such_package
        ... except MissingPackageError as error:
        ...     print(error)
        tasks.xyz: expected the package no_such_package, found it not installed (pip install no_such_package)
    """
    try:
        yield
    except ImportError as error:
        if (error.name or package).partition(".")[0] != package:
            raise
        extra = next((extra for extra, packages in _EXTRAS.items() if package in packages), "")
        install = f'pip install "maskstore[{extra}]"' if extra else f"pip install {package}"
        text = f"{what}: expected the package {package}, found it not installed ({install})"
        raise MissingPackageError(text, name=package) from None


class ArgumentTypeError(MaskStoreError, TypeError):
    """An argument is of a type that cannot be meant."""


class SpecError(MaskStoreError, ValueError):
    """A mask, array or gradient does not fit the layers that a `MaskSpec` declares."""


class MaskValueError(MaskStoreError, ValueError):
    """A value that should be a mask bit is not 0 or 1, or padding bits are not zero."""


class LayerNotFoundError(MaskStoreError, KeyError):
    """No layer of that name in the spec."""


class TaskNotFoundError(MaskStoreError, KeyError):
    """No mask of that name in the bank or matrix."""


class TaskExistsError(MaskStoreError, KeyError):
    """A mask of that name is stored already, and overwriting was not asked for."""


class UnknownCodecError(MaskStoreError, LookupError):
    """A codec id that this version does not know."""


class UnknownPriorError(MaskStoreError, LookupError):
    """A prior id that this version does not know."""


class CodecError(MaskStoreError, ValueError):
    """A codec or prior was configured with values it does not take, or cannot code this mask."""


class CorruptError(MaskStoreError, ValueError):
    """Stored bytes are not what was written: a checksum, a length or a coder's end state is wrong."""


class BackboneError(MaskStoreError, ValueError):
    """Masks were coded against the weights of a network that was not given, or of another one than was given."""


class LimitError(MaskStoreError, ValueError):
    """A few stored bytes ask for much memory or time; a larger `limit=` allows it to who trusts the file."""


class TimeLimitError(LimitError):
    """Work was not done within the seconds of a `time_limit`."""


class NotABankError(MaskStoreError, ValueError):
    """The file is not a mask bank."""


class FormatVersionError(MaskStoreError, ValueError):
    """The bank was written by a newer format version than this one reads."""


class ForeignFileError(MaskStoreError, ValueError):
    """A file of another program holds no masks in a layout known here, or could only be read by running its code."""


class StaleIndexError(MaskStoreError, ValueError):
    """An index of masks is not that of the bank as it is now."""


class ImportOptionError(MaskStoreError, ValueError):
    """What the caller said about a foreign file is missing or contradicts it: shapes, layout, bit order, names."""


class IrregularFileError(MaskStoreError, OSError):
    """A folder, a named pipe, a socket or a device where a file was to be read, or a file that is far too large."""


class MissingPackageError(MaskStoreError, ImportError):
    """An optional package that is not installed; the message says how to get it."""


class BankNotFoundError(MaskStoreError, FileNotFoundError):
    """No bank at that path."""


class BankExistsError(MaskStoreError, FileExistsError):
    """A file is already at the path where a bank was to be created."""


class BankReadOnlyError(MaskStoreError, PermissionError):
    """A change was asked of a bank that was opened for reading or lies where one cannot write."""


class BankBusyError(MaskStoreError, TimeoutError):
    """Another writer held the bank for longer than the timeout, or others changed it while it was read."""

    again = False
    """Whether the files were replaced in the middle of the call, so that the same call may succeed at once."""


class BankFullError(MaskStoreError, OSError):
    """The disk, or the limit set on the file's size, is full. Nothing of the last change was kept, unless the message
    says that all changes were."""


class BankIOError(MaskStoreError, OSError):
    """The operating system refused to read or write the bank."""


class NetworkFileSystemError(MaskStoreError, OSError):
    """A bank was to be written on a network file system, or read there without its caller saying so by name."""


class WriteConflictError(MaskStoreError, RuntimeError):
    """Another writer changed a shard set first. Nothing of this writer's change is in the set."""


class StoreOptionError(MaskStoreError, ValueError):
    """What was asked of a shard set or of its store is out of range or unknown: shards, retries, cache, engine."""


class BankClosedError(MaskStoreError, ValueError):
    """The bank was closed."""


class DeviceError(MaskStoreError, RuntimeError):
    """A device that torch cannot use here."""


class CompilerError(MaskStoreError, RuntimeError):
    """A kernel needs a compiler, and Numba has been told not to compile."""


class BankThreadError(MaskStoreError, RuntimeError):
    """A writing bank was used from another thread or process than the one that opened it."""
