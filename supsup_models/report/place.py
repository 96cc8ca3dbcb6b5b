"""Where a page is written: over an earlier one of the same kind, over nothing else unless asked to."""

from pathlib import Path

from maskstore.files import first_bytes
from supsup_models.errors import ReportError

_HEAD_BYTES = 1024  # within these a page says what made it


def check_place(folder: Path, out: Path, overwrite: bool, generator: str, kind: str) -> None:
    """ReportError if there is no folder to write into, or another kind of file would be lost.

    Args:
        folder: The run's folder.
        out: The page.
        overwrite: Whether a file of another kind may be replaced.
        generator: What a page of this kind says that it was made by.
        kind: What an error calls such a page.
    """
    if not out.parent.is_dir():
        raise ReportError(f"{out}: expected a folder {out.parent} to write into, found none")
    if out.is_dir():
        raise ReportError(f"{out}: expected a file's name, found a folder")
    earlier = is_page(out, generator)
    if out.exists() and not overwrite and not earlier:
        raise ReportError(
            f"{out}: expected no file or an earlier {kind}, found another file (`overwrite=True` replaces it)"
        )
    if out.exists() and out.resolve().parent == folder.resolve() and not earlier:
        raise ReportError(f"{out}: expected a place outside the run's own files, found one of them")


def is_page(path: Path, generator: str) -> bool:
    """Whether a file is a page that says so."""
    return path.is_file() and f'name="generator" content="{generator} '.encode() in first_bytes(path, _HEAD_BYTES)
