"""`Client`: a server of masks from Python. It needs numpy and the standard library only."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from io import BytesIO
from threading import local
from typing import Any
from urllib.parse import urlencode, urlsplit
from weakref import finalize

import numpy as np
from numpy.typing import ArrayLike

from supsup_models.errors import ArgumentError, RequestError


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        task: The task, given or inferred.
        label: The likeliest class under the task's mask.
        confidence: The probability that the network gives that class.
        task_confidence: A p-value of an inferred task, as in `infer_images`; None for a given task, or where it is
            unknown.
        none_of_these: Whether the image is of none of the tasks; None for a given task, or where it is unknown.
    """

    task: str
    label: int
    confidence: float
    task_confidence: float | None
    none_of_these: bool | None


@dataclass(frozen=True)
class ServedTask:
    """A task of a server, and whether its mask is in memory, and stays there."""

    task: str
    resident: bool
    pinned: bool


class Client:
    """A server of masks. Any number of threads may share a client: each has a connection of its own.

    Args:
        url: Where the server is, such as "http://127.0.0.1:8000".
        token: The server's token, if it has one.
        timeout: Seconds to wait for the server.

    Raises:
        ArgumentError: No address of a server.
        RequestError: In all methods: the server's own error, with its status; 503 if it cannot be reached.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from maskstore import MaskBank
        >>> from supsup_models import MaskedNetwork
        >>> from supsup_models.serving import Client, Engine, serve_http
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/m.bank", model.spec, meta=model.bank_meta()) as bank:
        ...         bank.put("cats", model.mask_of(model.initial_scores(0)))
        ...     with serve_http(Engine(f"{folder}/m.bank"), port=0) as server:
        ...         client = Client(server.url)
        ...         client.pin("cats")
        ...         answer, = client.predict(np.zeros((1, 64), "f4"), "cats")
        ...         tasks = client.tasks()
        >>> answer.task, tasks
        ('cats', (ServedTask(task='cats', resident=True, pinned=True),))
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ArgumentError(f"url: expected http://host:port, found {url!r:.80}")
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._where, self._base = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
        self._timeout = timeout
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._own = local()
        self._all: list[HTTPConnection] = []
        self.close: Callable[[], object] = finalize(self, _close, self._all)
        """Close the connections; whoever lets go of the client closes them too."""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(
        self, images: ArrayLike, task: str | Sequence[str] | None = None, *, pixels: str | None = None
    ) -> tuple[Prediction, ...]:
        """Task, label and confidence of each image.

        Args:
            images: `(n, inputs)`, or in the shape of the network's images, floats or uint8.
            task: A task's name, or one for each image. None has the server infer the task of each image.
            pixels: "normalised", "unit" or "raw", as in `infer_images`; by default told from the values.
        """
        names = [] if task is None else [task] if isinstance(task, str) else list(task)
        asked = [("task", name) for name in names] + ([] if pixels is None else [("pixels", pixels)])
        array = np.asarray(images)
        if len(names) > 1:  # more names than an address can hold
            whole = {"images": array.tolist(), "tasks": names, "pixels": _form(array, pixels)}
            found = self._ask("POST", "/predict", json.dumps(whole).encode(), "application/json")
        else:
            body = BytesIO()
            np.lib.format.write_array(body, array, allow_pickle=False)
            where = "/predict" + (f"?{urlencode(asked)}" if asked else "")
            found = self._ask("POST", where, body.getvalue(), "application/x-npy")
        return tuple(Prediction(**each) for each in found["answers"])

    def tasks(self) -> tuple[ServedTask, ...]:
        """All tasks of the server."""
        return tuple(ServedTask(**each) for each in self._ask("GET", "/tasks")["tasks"])

    def load(self, task: str) -> None:
        """Bring a task's mask into the server's memory."""
        self._change("load", task)

    def unload(self, task: str) -> None:
        """Put a task's mask out of the server's memory; RequestError with status 409 for a pinned one."""
        self._change("unload", task)

    def pin(self, task: str) -> None:
        """Keep a task's mask in the server's memory."""
        self._change("pin", task)

    def unpin(self, task: str) -> None:
        """Let a task's mask leave the server's memory when its room is needed."""
        self._change("unpin", task)

    def _change(self, how: str, task: str) -> None:
        self._ask("POST", f"/tasks/{how}", json.dumps({"task": task}).encode(), "application/json")

    def _opened(self) -> HTTPConnection:
        connection = self._kind(self._where, timeout=self._timeout)
        self._all.append(connection)
        return connection

    def _closed(self, connection: HTTPConnection) -> None:
        connection.close()
        self._all.remove(connection)

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> Any:
        headers = self._headers if kind is None else {**self._headers, "Content-Type": kind}
        for again in (True, False):
            kept = getattr(self._own, "connection", None)
            connection = kept or self._opened()
            self._own.connection = None
            try:
                connection.request(method, self._base + path, body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, HTTPException) as error:
                self._closed(connection)
                if kept is not None and again:  # the server had closed a connection that was not in use
                    continue
                raise RequestError(f"server {self._where}: expected an answer, found {error!r:.120}", 503) from error
            if response.will_close:
                self._closed(connection)
            else:
                self._own.connection = connection
            break
        try:
            found = json.loads(content)
        except ValueError:
            found = {"error": "", "detail": f"server: expected JSON, found {content[:80]!r}"}
        if response.status != 200:
            detail = found.get("detail") if isinstance(found, dict) else None
            raise RequestError(str(detail or f"server: expected status 200, found {response.status}"), response.status)
        return found


def _close(connections: list[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _form(array: np.ndarray[Any, Any], pixels: str | None) -> str | None:
    """The form of pixels whose dtype gets lost on the way."""
    return "raw" if pixels is None and array.dtype == np.uint8 else pixels
