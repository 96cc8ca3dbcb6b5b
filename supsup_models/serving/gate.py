"""`Gate`: who may ask at all, and what is counted of every request. Plain ASGI, around the application."""

import hmac
from time import perf_counter
from typing import Any

from supsup_models.errors import RequestError
from supsup_models.serving.metrics import Metrics
from supsup_models.serving.replies import error_response

_OPEN = "/healthz"
ENDPOINTS = (
    *("/predict", "/tasks", "/tasks/load", "/tasks/unload", "/tasks/pin", "/tasks/unpin"),
    *("/metrics", "/healthz", "/openapi.json", "/docs"),
)


class Gate:
    """Refuses requests without the token or under a foreign name of the host; counts all of them."""

    def __init__(self, app: Any, token: str | None, hosts: tuple[str, ...], metrics: Metrics) -> None:
        self._app, self._metrics, self._hosts = app, metrics, frozenset(hosts)
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, path = perf_counter(), scope["path"] if scope["path"] in ENDPOINTS else "other"
        status = 500

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await error_response(refusal)(scope, receive, sent)
            else:
                await self._app(scope, receive, sent)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(perf_counter() - start)

    def _refusal(self, scope: Any) -> RequestError | None:
        given: dict[bytes, bytes] = dict(scope["headers"])
        for header in (b"host", b"authorization"):
            if sum(key == header for key, _ in scope["headers"]) > 1:
                return RequestError(f"{header.decode()}: expected it once, found it more often", 400)
        if self._hosts:
            host = given.get(b"host", b"").decode("latin-1").rpartition(":")
            name = (host[0] or host[2]).lower() if not host[2].endswith("]") else "".join(host).lower()
            if name not in self._hosts:
                return RequestError(f"host: expected one of {', '.join(sorted(self._hosts))}, found {name!r:.60}", 400)
        if self._token is None or scope["path"] == _OPEN:
            return None
        if hmac.compare_digest(given.get(b"authorization", b""), self._token):
            return None
        return RequestError("token: expected the server's own, found none or another", 401)
