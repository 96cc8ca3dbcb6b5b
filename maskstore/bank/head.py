"""The head of a bank: a few texts about the whole of it, and their checksum. `docs/format.md`, "head", is normative."""

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskstore import _version
from maskstore.errors import CorruptError
from maskstore.files import encode_meta
from maskstore.masks import MaskSpec

_KEYS = {"created_by", "meta", "spec", "templates"}
_CLOSED, _AT_WORK = "maskstore ", "MASKSTORE "  # as long as each other, so that a closed bank has the bytes it had
HAS_MARK = f"SELECT 1 FROM head WHERE key='created_by' AND substr(value,1,{len(_AT_WORK)})='{_AT_WORK}'"
"""Gives a row if the head says that a writer is at work, or was when it ended: then a log belongs to the bank."""


def new_head(spec: MaskSpec, meta: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a new bank's head; MaskValueError for metadata that JSON cannot hold."""
    created_by = f"{_CLOSED}{_version.__version__}"
    return {"created_by": created_by, "meta": encode_meta(meta), "spec": spec.to_json(), "templates": "[]"}


def with_checksum(head: Mapping[str, str]) -> dict[str, str]:
    """The texts of a head, and their checksum under a key of its own: BLAKE2b-128 in hexadecimal digits."""
    text = "".join(f"{len(key.encode())}:{key}{len(head[key].encode())}:{head[key]}" for key in sorted(head))
    return {**head, "checksum": hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def read_head(link: sqlite3.Connection, path: Path) -> dict[str, str]:
    """The texts of a bank's head, their checksum checked and left out."""
    try:
        return _checked(link)
    except CorruptError as error:
        raise CorruptError(f"{path}: {error}") from None


def _checked(link: sqlite3.Connection) -> dict[str, str]:
    rows = link.execute(f"SELECT key,value FROM head LIMIT {len(_KEYS) + 2}").fetchall()
    head = {key: value for key, value in rows if key != "checksum"}
    whole = len(rows) == len(head) + 1 and head.keys() == _KEYS and all(isinstance(text, str) for text in head.values())
    if not whole or with_checksum(head) != dict(rows):
        raise CorruptError("expected the bank's head as it was written, found other bytes")
    return head


def change_head(link: sqlite3.Connection, key: str, value: str) -> None:
    """Put another text in the place of one, and the checksum of all; CorruptError for a damaged head."""
    changed = with_checksum({**_checked(link), key: value})
    link.executemany("UPDATE head SET value=? WHERE key=?", [(changed[name], name) for name in (key, "checksum")])


def change_mark(link: sqlite3.Connection, *, at_work: bool) -> bool:
    """Say in the head that a writer is at work, or no more; whether that was a change.

    The banks of other programs, which `created_by` names otherwise, have no such mark.
    """
    old, new = (_CLOSED, _AT_WORK) if at_work else (_AT_WORK, _CLOSED)
    found = link.execute("SELECT value FROM head WHERE key='created_by'").fetchone()
    if found is None or not str(found[0]).startswith(old):
        return False
    change_head(link, "created_by", new + str(found[0]).removeprefix(old))
    return True
