"""`serve_http`: an engine's application on a port, in a thread of its own, guarded against slow and huge heads."""

import logging
from asyncio import TimerHandle, Transport
from ipaddress import ip_address
from threading import Thread
from time import monotonic, sleep

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from supsup_models.errors import ArgumentError, RequestError
from supsup_models.serving.app import create_app
from supsup_models.serving.engine import Engine
from supsup_models.serving.limits import Limits

_HEAD_BYTES = 64 << 10
_PIPELINED = 128  # requests of a connection that wait for the answers to those before them
_START_SECONDS = 30.0
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def _protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """Uvicorn's protocol with limits: bytes and seconds of a head, requests sent ahead, seconds to take an answer."""
    head_seconds = limits.head_seconds

    class Guarded(HttpToolsProtocol):
        _timer: TimerHandle | None = None
        _taking: TimerHandle | None = None
        _head = 0

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # whatever the system does not take at once counts as waiting
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_wait()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._taking = self.loop.call_later(limits.answer_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            if self._taking is not None:
                self._taking.cancel()
                self._taking = None
            super().resume_writing()

        def data_received(self, data: bytes) -> None:
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._wait_for_head()
            super().data_received(data)
            if self._timer is not None:
                self._head += len(data)
                if self._head > _HEAD_BYTES and not self.transport.is_closing():
                    self._end_wait()
                    self.send_400_response(f"head: expected at most {_HEAD_BYTES} bytes, found more")

        def on_headers_complete(self) -> None:
            self._end_wait()
            if self.transport.is_closing():  # what else came with a request that was refused
                return
            if len(self.pipeline) >= _PIPELINED:
                self.send_400_response(f"requests: expected at most {_PIPELINED} that wait for others, found more")
                return
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if not self.transport.is_closing():
                super().on_body(body)

        def on_message_complete(self) -> None:
            if not self.transport.is_closing():
                super().on_message_complete()

        def _wait_for_head(self) -> None:
            self._head = 0
            self._timer = self.loop.call_later(head_seconds, self._too_slow)

        def _end_wait(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _too_slow(self) -> None:
            self._timer = None
            if not self.transport.is_closing():
                self.send_400_response(f"head: expected all of it within {head_seconds:g} seconds, found less")

    return Guarded


class RunningServer:
    """A server that runs in a thread. `stop` lets requests in flight end, for some seconds, and closes the engine."""

    def __init__(self, engine: Engine, config: uvicorn.Config) -> None:
        self._engine, self._server = engine, uvicorn.Server(config)
        self._thread = Thread(target=self._serve, name="masks-http", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> "RunningServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        try:
            self._server.run()
        except BaseException as error:  # uvicorn ends the process if the port is taken
            self._error = error

    def start(self) -> "RunningServer":
        """Begin, and come back when it answers; RequestError if it cannot listen there."""
        self._thread.start()
        end = monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or monotonic() > end:
                where = f"{self._server.config.host}:{self._server.config.port}"
                raise RequestError(
                    f"{where}: expected an address to listen on, found it taken or not ours; name another"
                )
            sleep(0.005)
        return self

    @property
    def url(self) -> str:
        """Where it is, such as "http://127.0.0.1:8000"."""
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def wait(self) -> None:
        """Come back when the server ends; KeyboardInterrupt goes through."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join()
        self._engine.close()


def serve_http(engine: Engine, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> RunningServer:
    """Serve an engine over HTTP.

    Args:
        engine: What computes. It is closed when the server is stopped.
        host: The address to listen on. Another than loopback needs a token.
        port: 0 takes a free one.
        token: What requests have to bring as `Authorization: Bearer ...`.

    Raises:
        ArgumentError: No token for an address that others can reach, or a token that no header can carry.
        RequestError: The address cannot be listened on.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from maskstore import MaskBank
        >>> from supsup_models import MaskedNetwork
        >>> from supsup_models.serving import Client, Engine, serve_http
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/m.bank", model.spec, meta=model.bank_meta()) as bank:
        ...         for number in range(3):
        ...             bank.put(f"task-{number}", model.mask_of(model.initial_scores(number)))
        ...     with serve_http(Engine(f"{folder}/m.bank"), port=0) as server:
        ...         answers = Client(server.url).predict(np.zeros((2, 64), "f4"), ["task-2", "task-0"])
        >>> [answer.task for answer in answers]
        ['task-2', 'task-0']
    """
    local = _is_loopback(host)
    if token is None and not local:
        raise ArgumentError(f"host {host}: expected a token for an address that others can reach, found none")
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise ArgumentError("token: expected printable ASCII characters without spaces, found others")
    names = LOOPBACK_NAMES if local and token is None else ()
    config = uvicorn.Config(
        create_app(engine, token=token, hosts=names),
        host=host, port=port, http=_protocol(engine.limits), ws="none", lifespan="off", access_log=False,
        log_config=None, log_level=logging.ERROR, server_header=False, limit_concurrency=engine.limits.connections,
        timeout_keep_alive=30, timeout_graceful_shutdown=int(engine.limits.answer_seconds),
    )  # fmt: skip
    return RunningServer(engine, config).start()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
