"""HTTP servers that treat ranges in the ways that servers do, and an fsspec file system that needs no other package."""

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fsspec.spec import AbstractFileSystem

WAYS = ("ranges", "no suffix", "no suffix and no sizes", "no ranges", "suffix as prefix")


class _Handler(BaseHTTPRequestHandler):
    data = b""
    way = "ranges"

    def do_HEAD(self) -> None:
        if "no sizes" in self.way or "HEAD" in self.way:
            self.send_error(405)
            return
        self._head(200, len(self.data))

    def do_GET(self) -> None:
        if not self.path.endswith(".shard"):
            self.send_error(404)
            return
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None or self.way == "no ranges":
            self._send(200, 0, len(self.data))
            return
        first, last = asked[1], asked[2]
        size = len(self.data)
        if (not first and self.way.startswith("no suffix")) or "no sizes" in self.way:
            self.send_error(416)
        elif not first and self.way == "suffix as prefix":
            self._send(206, 0, min(size, int(last)))
        elif not first:
            self._send(206, max(0, size - int(last)), size)
        else:
            self._send(206, int(first), min(size, int(last) + 1 if last else size))

    def _send(self, status: int, start: int, stop: int) -> None:
        self._head(status, stop - start, f"bytes {start}-{stop - 1}/{len(self.data)}" if status == 206 else "")
        self.wfile.write(self.data[start:stop])

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if self.way == "ranges":
            self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(data: bytes, way: str) -> Iterator[str]:
    """A server of one shard in this process; yields host and path."""
    handler = type("Handler", (_Handler,), {"data": data, "way": way})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}/a.shard"
        finally:
            server.shutdown()
            thread.join()


class PlainHTTPFileSystem(AbstractFileSystem):
    """HTTP as `fsspec.implementations.http` speaks it, with the standard library alone."""

    protocol = "plainhttp"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.replace("plainhttp://", "http://")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        request = urllib.request.Request(path)
        if start is not None or end is not None:
            spoken = f"{start}" if start is not None and start < 0 else f"{start or 0}-{'' if end is None else end - 1}"
            request.add_header("Range", f"bytes={spoken}")
        return self._read(request)

    def info(self, path: str, **_: object) -> dict[str, object]:
        try:
            with urllib.request.urlopen(urllib.request.Request(path, method="HEAD"), timeout=10) as answer:
                return {"name": path, "size": int(answer.headers["Content-Length"]), "type": "file"}
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def _read(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise FileNotFoundError(request.full_url) from None
            raise ValueError(f"{error.code} {error.reason}") from None  # urllib's own class would be an OSError
