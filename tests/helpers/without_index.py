"""A bank as on read-only media, where SQLite cannot make the index of a log."""

from pathlib import Path


def without_index(path: Path) -> Path:
    """The same bank, of which SQLite can make no index of the log any more."""
    Path(f"{path}-shm").symlink_to("nowhere")  # SQLite follows no link here
    return path
