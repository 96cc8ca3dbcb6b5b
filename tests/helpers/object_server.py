"""A small object store over HTTP: byte ranges, entity tags, conditional puts, and faults on request.

It speaks as much of S3 as reading and writing a shard set needs, under `/bucket/name`. It counts requests.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Fault = Callable[[int, str, str], str | None]
"""What is wrong with request number n, of a method, for a path: see `FAULTS`."""
FAULTS = ("500", "cut", "drop", "slow", "flip", "shifted")
SLOW_SECONDS = 1.0


@dataclass
class Objects:
    """What a server has and has done."""

    port: int = 0
    stored: dict[str, bytes] = field(default_factory=dict)
    folder: Path | None = None
    """If set, what is not stored is read from here."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and asked range."""
    fault: Fault | None = None
    delay: float = 0.0
    """Seconds before each answer, as a far server has."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def http(self) -> str:
        """The bucket as plain HTTP."""
        return f"http://127.0.0.1:{self.port}/bucket"

    @property
    def options(self) -> dict[str, str]:
        """obstore's configuration, for `s3://bucket/...`."""
        return {"endpoint": f"http://127.0.0.1:{self.port}", "region": "eu-west-1", "skip_signature": "true"}

    def data(self, path: str) -> bytes | None:
        """An object; None if there is none."""
        with self.lock:
            found = self.stored.get(path)
        if found is None and self.folder is not None and (self.folder / path.lstrip("/")).is_file():
            return (self.folder / path.lstrip("/")).read_bytes()
        return found


def tag(data: bytes) -> str:
    """The entity tag of an object."""
    return f'"{hashlib.md5(data).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    objects = Objects()

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_PUT(self) -> None:
        path, data = self._path(), self.rfile.read(int(self.headers["Content-Length"]))
        fault = self._fault()
        if fault == "500":
            return self._send(500, b"")
        with self.objects.lock:
            there = self.objects.stored.get(path)
            match, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
            if (none == "*" and there is not None) or (match is not None and (there is None or tag(there) != match)):
                return self._send(412, b"")
            self.objects.stored[path] = data
        if fault == "drop":  # it was heard, and the answer was lost
            self.close_connection = True
            return None
        return self._send(200, b"", {"ETag": tag(data)})

    def _answer(self, *, body: bool) -> None:
        fault, data = self._fault(), self.objects.data(self._path())
        if self.objects.delay:
            time.sleep(self.objects.delay)
        if fault == "500":
            return self._send(500, b"")
        if fault == "drop":
            self.close_connection = True
            return None
        if data is None:
            return self._send(404, b"")
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {"ETag": tag(data) if len(data) < 1 << 20 else f'"{len(data)}"', "Accept-Ranges": "bytes"}
        headers["Last-Modified"] = "Sat, 28 Nov 2026 12:00:00 GMT"
        if asked is None:
            return self._send(200, data, headers, body=body, fault=fault)
        start, stop = int(asked[1]), min(len(data), int(asked[2]) + 1 if asked[2] else len(data))
        if start >= len(data):
            return self._send(416, b"")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        part = data[start:stop]
        if fault == "shifted":
            part = data[max(0, start - 1) :][: len(part)]
        return self._send(206, part, headers, body=body, fault=fault)

    def _send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        *,
        body: bool = True,
        fault: str | None = None,
    ) -> None:
        if fault == "flip" and data:
            data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if fault == "cut":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        if fault == "slow":
            self.wfile.write(data[:1])
            self.wfile.flush()
            time.sleep(SLOW_SECONDS)
            data = data[1:]
        self.wfile.write(data)

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _fault(self) -> str | None:
        with self.objects.lock:
            self.objects.requests.append((self.command, self._path(), self.headers.get("Range", "")))
            number = len(self.objects.requests)
        return self.objects.fault(number, self.command, self._path()) if self.objects.fault else None

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False  # clients keep connections open

    def handle_error(self, *_: Any) -> None:
        """A client that is gone is no news."""


@contextmanager
def object_server(folder: Path | None = None, delay: float = 0.0) -> Iterator[Objects]:
    """A server in this process."""
    objects = Objects(folder=folder, delay=delay)
    handler = type("Handler", (_Handler,), {"objects": objects})
    with _Server(("127.0.0.1", 0), handler) as server:
        objects.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield objects
        finally:
            objects.fault = lambda *_: "drop"  # connections that are open still
            server.shutdown()
            thread.join()
