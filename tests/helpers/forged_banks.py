"""Banks as a stranger may make them: every checksum fits, and what is under it is free."""

import hashlib
import sqlite3
import struct
import zlib
from pathlib import Path

from maskstore.bank.head import with_checksum
from maskstore.bank.sqlite import APPLICATION_ID, SCHEMA
from maskstore.files import write_leb128

BYTE = bytes([0b01010101])
SPEC = '[["a",[8]]]'


def layer_data(*layers: tuple[bytes, bytes, bytes]) -> bytes:
    """A row's data from (side information, payload, packed bytes that they decode to) of each layer."""
    table = [write_leb128(len(a)) + write_leb128(len(b)) + struct.pack("<I", zlib.crc32(c)) for a, b, c in layers]
    return b"".join(table) + b"".join(a + b for a, b, _ in layers)


RAW_BYTE = layer_data((b"", BYTE, BYTE))


def literal(*texts: str) -> bytes:
    """Texts as a row stores them under a template of their own; none of them has a `#`."""
    text = "\n".join(texts).encode()
    return write_leb128(0) + write_leb128(len(text)) + text


class Forge:
    """A new bank of one 8-bit layer, or of the layers given, and of the rows and chunks that are added."""

    def __init__(self, path: Path, *, spec: str = SPEC, meta: str = "{}", templates: str = "[]") -> None:
        self.path = path
        self.link = sqlite3.connect(path, isolation_level=None)
        self.link.execute("PRAGMA page_size=512")
        self.link.execute(f"PRAGMA application_id={APPLICATION_ID}")
        self.link.execute("PRAGMA user_version=1")
        for statement in SCHEMA:
            self.link.execute(statement)
        head = {"created_by": "a stranger", "meta": meta, "spec": spec, "templates": templates}
        self.link.executemany("INSERT INTO head VALUES(?,?)", with_checksum(head).items())
        self._stream = b""

    def row(
        self,
        id: int = 1,
        name: str = "t",
        data: bytes = RAW_BYTE,
        *,
        meta: str = "{}",
        codec: str = '{"id":"raw"}',
        prior: str = '{"id":"uniform"}',
        extras: bytes = b"",
        about: bytes | None = None,
        start: int | None = None,
    ) -> "Forge":
        """Add a row with the checksum it must have; at `start` the caller has bytes already."""
        digest = hashlib.blake2b(struct.pack("<q", id), digest_size=8)
        for part in (name.encode(), meta.encode(), codec.encode(), prior.encode(), b"", extras, data):
            digest.update(struct.pack("<Q", len(part)) + part)
        if start is None:
            start = len(self._stream)
            self._stream += extras + data
        about = literal(meta, codec, prior) if about is None else about
        values = (id, name, about, digest.digest(), start, len(extras), len(data), 0, None)
        self.link.execute("INSERT INTO masks VALUES(?,?,?,?,?,?,?,?,?)", values)
        return self

    def chunk(self, start: int, dead: int | None, data: bytes | None) -> "Forge":
        """Add a piece of the stream."""
        self.link.execute("INSERT INTO chunks VALUES(?,?,?)", (start, dead, data))
        return self

    def done(self) -> Path:
        """The finished file."""
        if self._stream:
            self.chunk(0, 0, self._stream)
        self.link.execute("PRAGMA journal_mode=WAL")
        self.link.close()
        return self.path
