"""A new file appears whole under its name, or not at all."""

import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskstore.errors import BankExistsError, MaskStoreError
from maskstore.files.connections import is_database
from maskstore.files.os_errors import named_os_errors

_REMEDY = "`overwrite=True` replaces it"
_BESIDE_A_BANK = ("-wal", "-shm", "-journal", ".lock")


@contextmanager
def replacing(path: Path, *, overwrite: bool, remedy: str = _REMEDY) -> Iterator[Path]:
    """A path for a new file; when the block ends, the file that is there is synced and takes the name `path`.

    The new path is in a folder of its own beside `path`, which goes in the end with all that is in it. After an error
    nothing is left behind; what a killed process left is removed by the next one that writes the same file. A file that
    is replaced hands its permissions on, and a link stays a link: the file that it leads to is replaced.
    BankExistsError if there is a file at `path` and `overwrite` is not set; it ends with the `remedy`, if that is not
    empty. A bank, and what lies beside one, is never replaced.
    """
    if os.path.lexists(path) and not overwrite:
        raise taken(path, remedy)
    with named_os_errors(path):
        target = Path(os.path.realpath(path)) if overwrite and path.is_symlink() else path
        mode = _mode_of(target) if overwrite else None
        _refuse_banks(target)
        with _scratch_folder(target) as folder:
            scratch = folder / target.name
            with _named_without(folder):
                yield scratch
            if mode is not None:
                scratch.chmod(mode)
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
            publish(scratch, target, overwrite=overwrite, remedy=remedy)


@contextmanager
def _named_without(folder: Path) -> Iterator[None]:
    """Errors about the file in a scratch folder name it as its caller does: the folder is gone when they are read."""
    try:
        yield
    except MaskStoreError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = error.args[0].replace(f"{folder.name}{os.sep}", ""), *error.args[1:]
        raise


def publish(scratch: Path, path: Path, *, overwrite: bool, remedy: str = _REMEDY) -> None:
    """Give a finished file its name; without `overwrite` a file that appeared meanwhile is a BankExistsError."""
    if overwrite:
        os.replace(scratch, path)
    else:
        try:
            os.link(scratch, path)
            scratch.unlink()  # a bank with two names cannot be written to
        except FileExistsError:
            raise taken(path, remedy) from None
        except OSError:  # a file system without hard links: reserve the name, then replace the reservation
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                raise taken(path, remedy) from None
            os.replace(scratch, path)
    with suppress(OSError):  # some network folders cannot be synced; the file itself was
        sync_folder(path.parent)


def taken(path: Path, remedy: str = "") -> BankExistsError:
    """The error for a path where something is already; `remedy` says what can be done, if anything."""
    found = "one" if path.exists() else "a link that leads nowhere"
    return BankExistsError(f"{path}: expected no file at this path, found {found}{f' ({remedy})' if remedy else ''}")


def _refuse_banks(path: Path) -> None:
    """BankExistsError where a new file would destroy a bank, the one that is read just now included, or its log."""
    name = path.name
    owners = [path.with_name(name.removesuffix(end)) for end in _BESIDE_A_BANK if name.endswith(end) and name != end]
    for bank in (path, *owners):
        if bank.is_file() and is_database(bank):
            found = "a bank" if bank is path else f"one that belongs to the bank {bank.name}"
            raise BankExistsError(f"{path}: expected a file that holds no bank, found {found} (name another file)")


def _mode_of(path: Path) -> int | None:
    """The permissions of the file that is there; BankExistsError for what is no file, such as a pipe or a folder."""
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise BankExistsError(f"{path}: expected a file to replace, found something else, such as a pipe or a folder")
    return stat.S_IMODE(found)


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """A folder for a new file beside `path`, locked as long as this process lives: others then know when it ended."""
    prefix, suffix = f".{path.name}.", ".new"
    for left in path.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
        with suppress(OSError):
            lock = _lock(left)
            if lock is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=path.parent))
        with suppress(BlockingIOError, FileNotFoundError):  # another process took it for one that was left
            lock = _lock(folder)
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds a lock on a folder; None where there are no such locks.

    BlockingIOError if another process holds it, FileNotFoundError if the folder is gone.
    """
    if os.name != "posix":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return handle


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable, where the system lets a folder be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
