"""How much memory a file may claim before a byte of it is allocated.

A few bytes can describe arrays of any size: they are compressed, or one of them is named many times. What is read costs
at most `FREE_BYTES`, or `MOST_RATIO` bytes for each byte of the file, unless the caller allows more.
"""

from maskstore.errors import LimitError
from maskstore.files.stopping import check_wanted

FREE_BYTES = 256 << 20
MOST_RATIO = 64
TABLE_BYTES = 4 << 20
"""The longest table of names, shapes and places: Python's objects for it take up to a hundred times as much."""


def check_claim(what: str, claimed: int, size: int, limit: int | None) -> None:
    """LimitError if `claimed` bytes are more than a file of `size` bytes may take, or more than `limit` if given."""
    check_wanted()
    allowed = max(FREE_BYTES, MOST_RATIO * size) if limit is None else limit
    if claimed > allowed:
        raise LimitError(f"{what}: expected arrays of at most {allowed:,} bytes, found {claimed:,} bytes claimed "
                         f"by {size:,} (`limit={claimed}` allows it)")  # fmt: skip


def check_table(what: str, size: int, limit: int | None) -> None:
    """LimitError if a table of names is longer than `TABLE_BYTES`, and than a `MOST_RATIO`th of `limit` if given."""
    check_wanted()
    allowed = max(TABLE_BYTES, (limit or 0) // MOST_RATIO)
    if size > allowed:
        raise LimitError(f"{what}: expected a table of contents of at most {allowed:,} bytes, found {size:,} bytes "
                         f"(`limit={size * MOST_RATIO}` allows it)")  # fmt: skip
