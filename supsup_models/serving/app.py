"""`create_app`: the web application of an engine. It only translates: requests into calls, errors into statuses."""

import json
from asyncio import sleep
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from maskstore.errors import MaskStoreError
from supsup_models.errors import RequestError, SupSupError
from supsup_models.runs import Answer
from supsup_models.serving.engine import Engine
from supsup_models.serving.gate import Gate
from supsup_models.serving.page import page_of
from supsup_models.serving.replies import error_response
from supsup_models.serving.requests import (
    NPY,
    AnswersBody,
    Bodies,
    ErrorBody,
    PredictBody,
    TaskBody,
    TasksBody,
    asked,
    parsed,
)
from supsup_models.serving.residents import Residents
from supsup_models.serving.waiting import Answers

_LISTED = 500  # tasks of a listing that are written in one go
_STATUSES = (400, 401, 404, 408, 409, 413, 415, 422, 503, 504)
_WRONG: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in _STATUSES}


def create_app(engine: Engine, *, token: str | None = None, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The web application that answers for an engine.

    Args:
        engine: What computes. The caller closes it.
        token: What requests have to bring as `Authorization: Bearer ...`, but for `/healthz`; None lets everybody in.
        hosts: The names that requests may use for the server; empty allows any.

    Returns:
        An ASGI application: `POST /predict`, `GET /tasks`, `POST /tasks/load`, `/tasks/unload`, `/tasks/pin` and
        `/tasks/unpin`, `GET /metrics`, `/healthz`, `/openapi.json` and `/docs`.

    Examples:
        >>> import tempfile
        >>> from maskstore import MaskBank
        >>> from supsup_models import MaskedNetwork
        >>> from supsup_models.serving import Engine, create_app
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     MaskBank.create(f"{folder}/m.bank", model.spec, meta=model.bank_meta()).close()
        ...     with Engine(f"{folder}/m.bank") as engine:
        ...         sorted(create_app(engine).openapi()["paths"])[:3]
        ['/healthz', '/metrics', '/predict']
    """
    from maskstore import __version__

    app = FastAPI(
        title="Masks", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, responses=_WRONG,
        description="One frozen network; each task is a mask. Images in, tasks and labels out.",
    )  # fmt: skip
    app.router.route_class = _Plain
    bodies, results = Bodies(engine.limits), Answers(engine)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return error_response(error)

    for known in (SupSupError, MaskStoreError, HTTPException):
        app.add_exception_handler(known, failed)

    @app.post("/predict", response_model=AnswersBody, openapi_extra=_predict_body())
    async def predict(request: Request) -> Response:
        """Task, label and confidence of each image. Without a task's name, the task is inferred from the image."""
        async with bodies.read(request) as (kind, body):
            images, given, pixels = asked(kind, body, request)
            answers: tuple[Answer, ...] = await results.of(engine.predict(images, given, pixels=pixels))
        return Response(json.dumps({"answers": [vars(each) for each in answers]}), media_type="application/json")

    @app.get("/tasks", response_model=TasksBody)
    async def tasks(request: Request) -> Response:
        """All tasks, and which of their masks are in memory."""
        if request.scope["http_version"] == "1.0":  # it has no way to end what comes in pieces
            raise RequestError("HTTP: expected version 1.1 to list tasks, found 1.0", 400)
        return StreamingResponse(_listing(engine.residents), media_type="application/json")

    changes: dict[str, tuple[Callable[[str], Future[object]], str]] = {
        "load": (engine.load, "Bring a task's mask into memory."),
        "unload": (engine.unload, "Put a task's mask out of memory; not a pinned one."),
        "pin": (engine.pin, "Keep a task's mask in memory."),
        "unpin": (engine.unpin, "Let a task's mask leave when its room is needed."),
    }
    for name, (change, says) in changes.items():
        app.post(
            f"/tasks/{name}", response_model=TaskBody, description=says, openapi_extra=_json_body(TaskBody), name=name
        )(_change(results, change, bodies))

    @app.get("/healthz", response_model=dict[str, Any])
    async def healthz(request: Request) -> Response:
        """Whether the server answers, and how many tasks it knows."""
        return JSONResponse({"status": "ok", "tasks": len(engine.residents.names)})

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Counters for Prometheus."""
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page_of(app.openapi()), headers={"content-security-policy": _POLICY})

    app.add_middleware(Gate, token=token, hosts=hosts, metrics=engine.metrics)
    return app


_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The page of the documentation loads nothing and runs nothing."""


async def _listing(residents: Residents) -> AsyncIterator[str]:
    """`TasksBody` in pieces: however many tasks there are, it takes little memory, and nobody waits for all of it."""
    names = residents.names
    yield '{"tasks": ['
    for start in range(0, len(names), _LISTED):
        some, pinned = names[start : start + _LISTED], residents.pinned
        piece = json.dumps([{"task": name, "resident": name in residents, "pinned": name in pinned} for name in some])
        yield piece[1:-1] + (", " if start + _LISTED < len(names) else "")
        await sleep(0)  # others take their turn; the client may take all that it is given at once
    memory = residents.room * residents.mask_bytes
    yield f'], "resident_bytes": {residents.nbytes}, "memory": {memory}}}'


class _Plain(APIRoute):
    """A route whose function takes the request and gives the response: nothing is injected, and nothing converted."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def _change(
    results: Answers, change: Callable[[str], "Future[object]"], bodies: Bodies
) -> Callable[[Request], Awaitable[Response]]:
    async def changed(request: Request) -> Response:
        async with bodies.read(request) as (kind, body):
            if kind != "json":
                raise RequestError("body: expected JSON with task, found an array", 422)
            given: TaskBody = parsed(TaskBody, body)
        await results.of(change(given.task))
        return JSONResponse({"task": given.task})

    return changed


def _json_body(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": kind.model_json_schema()}}}}


def _predict_body() -> dict[str, Any]:
    described = _json_body(PredictBody)
    described["requestBody"]["content"][NPY] = {"schema": {"type": "string", "format": "binary"}}
    many = {"type": "array", "items": {"type": "string"}}
    described["parameters"] = [
        {"name": "task", "in": "query", "schema": many, "description": f"With {NPY}: a task, or one for each image."},
        {"name": "pixels", "in": "query", "schema": {"type": "string"}, "description": f"With {NPY}: as in JSON."},
    ]
    return described
