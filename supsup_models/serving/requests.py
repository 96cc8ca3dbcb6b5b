"""Bodies of requests: read with a limit of bytes and of time, as JSON or as a numpy array."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskstore.errors import ForeignFileError
from maskstore.files import read_npy
from supsup_models.errors import RequestError
from supsup_models.serving.limits import Limits

NPY = "application/x-npy"


class PredictBody(BaseModel):
    """Images, and the tasks they are of; without any, the task of each image is inferred."""

    model_config = ConfigDict(extra="forbid")
    images: list[Any] = Field(description="(n, inputs), or images in their own shape: numbers.")
    task: str | None = Field(None, description="The task of all images.")
    tasks: list[str] | None = Field(None, description="A task for each image.")
    pixels: str | None = Field(None, description="normalised, unit (0 to 1) or raw (0 to 255); told from the values.")


class TaskBody(BaseModel):
    """A task by its name."""

    model_config = ConfigDict(extra="forbid")
    task: str = Field(description="The task's name.")


class AnswerBody(BaseModel):
    """The answer for one image."""

    task: str = Field(description="The task, given or inferred.")
    label: int = Field(description="The likeliest class under the task's mask.")
    confidence: float = Field(description="The probability that the network gives that class.")
    task_confidence: float | None = Field(description="A p-value of an inferred task; null for a given one.")
    none_of_these: bool | None = Field(description="Whether the image is of none of the tasks; null if unknown.")


class AnswersBody(BaseModel):
    """One answer an image, in their order."""

    answers: list[AnswerBody]


class TaskState(BaseModel):
    """A task, and whether its mask is in memory."""

    task: str
    resident: bool
    pinned: bool


class TasksBody(BaseModel):
    """The tasks of the source, in its order."""

    tasks: list[TaskState]
    resident_bytes: int = Field(description="Bytes of the masks in memory.")
    memory: int = Field(description="Bytes that there are for them.")


class ErrorBody(BaseModel):
    """What was wrong: the name of the error, and one line."""

    error: str
    detail: str


class Asked(NamedTuple):
    """What a request asks about: images, their tasks, and what form the pixels have."""

    images: NDArray[np.generic]
    tasks: str | list[str] | None
    pixels: str | None


def asked(kind: str, body: bytes, request: Request) -> Asked:
    """What a body of `POST /predict` asks; RequestError for what cannot be meant. What JSON was read to is let go."""
    if kind == "npy":
        query = query_of(request)
        tasks = query.get("task", [])
        return Asked(npy_of(body), tasks[0] if len(tasks) == 1 else tasks or None, query.get("pixels", [None])[-1])
    found: PredictBody = parsed(PredictBody, body)
    if found.task is not None and found.tasks is not None:
        raise RequestError("body: expected `task` or `tasks`, found both", 422)
    if found.task == "" or found.tasks == []:
        raise RequestError("task: expected a name, found an empty one; leave it out to have it inferred", 422)
    return Asked(images_of(found.images), found.task or found.tasks, found.pixels)


class Bodies:
    """The bytes of all bodies in memory, up to a limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self._held = limits, 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[tuple[str, bytes]]:
        """A request's body; it counts for the limit inside the block. RequestError with status 503 beyond that."""
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._held + size > self.limits.bodies:
                raise RequestError(
                    f"server: expected at most {self.limits.bodies} bytes of bodies, found more; try again later", 503
                )
            self._held += size
            held += size

        try:
            yield await _read_body(request, self.limits, hold)
        finally:
            self._held -= held


async def _read_body(request: Request, limits: Limits, hold: Callable[[int], None]) -> tuple[str, bytes]:
    """The kind of a body, "json" or "npy", and its bytes; RequestError for other kinds, too many bytes or seconds."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", NPY):
        raise RequestError(f"content-type: expected application/json or {NPY}, found {kind!r:.60}", 415)
    name, most = ("json", limits.json) if kind != NPY else ("npy", limits.body)
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 20 and int(length) > most:
        raise RequestError(f"body: expected at most {most} bytes of {name}, found {length}", 413)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise RequestError(f"body: expected at most {most} bytes of {name}, found more", 413)
                hold(len(part))
                parts.append(part)
    except TimeoutError:
        raise RequestError(
            f"body: expected all of it within {limits.body_seconds:g} seconds, found less", 408
        ) from None
    return name, b"".join(parts)


def parsed(kind: type[BaseModel], body: bytes) -> Any:
    """A body in JSON; RequestError for anything else."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"][:3]))
        wrong = f"{where + ': ' if where else ''}{first['msg']}"
        raise RequestError(
            f"body: expected JSON with {', '.join(kind.model_fields)}, found {wrong:.200}", 422
        ) from None


def images_of(values: list[Any]) -> NDArray[np.generic]:
    """Numbers in JSON as an array of float32; RequestError for what is none."""
    try:
        with np.errstate(over="ignore"):  # an infinite value is refused later, by the image that has it
            array = np.array(values, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        raise RequestError("images: expected rows of numbers, all of one shape, found something else", 422) from None
    if any(isinstance(each, str | bool | type(None)) for each in _first_values(values)):
        raise RequestError("images: expected numbers, found something else", 422)
    found: NDArray[np.generic] = array
    return found


def _first_values(values: list[Any]) -> list[Any]:
    """The innermost values of the first image."""
    inner: Any = values
    while isinstance(inner, list) and inner and isinstance(inner[0], list):
        inner = inner[0]
    return inner if isinstance(inner, list) else []


def query_of(request: Request) -> dict[str, list[str]]:
    """The values behind a request's question mark, by their names; RequestError for what is not UTF-8."""
    query: bytes = request.scope["query_string"]
    try:
        return parse_qs(query.decode(), keep_blank_values=True, errors="strict") if query else {}
    except ValueError:
        raise RequestError(
            "address: expected names in UTF-8 behind the question mark, found other bytes", 422
        ) from None


def npy_of(body: bytes) -> NDArray[np.generic]:
    """The array of an .npy body; RequestError for anything else."""
    try:
        array = read_npy(BytesIO(body), len(body), "body")
    except ForeignFileError as error:
        raise RequestError(str(error), 422) from None
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise RequestError(f"images: expected uint8 or float pixels, found {array.dtype}", 422)
    return array
