"""`Limits`: how much memory and time a server spends on anyone."""

from dataclasses import dataclass, fields

from supsup_models.errors import ArgumentError


@dataclass(frozen=True)
class Limits:
    """How much memory and time a server spends on anyone.

    Attributes:
        memory: Bytes for packed masks: half of them for the masks in use, half for the matrix that tasks are inferred
            with.
        body: Bytes of a request's body.
        json: Bytes of a body in JSON, which takes some ten times as much memory as it is long.
        bodies: Bytes of the bodies of all requests that are read or wait for their answers.
        images: Images of one request.
        waiting: Images that may wait for their turn, all requests together. A request beyond gets status 503.
        batch: Images that run together.
        head_seconds: Seconds for the head of a request to arrive.
        body_seconds: Seconds for the body of a request to arrive.
        answer_seconds: Seconds until a request has an answer, or status 504.
        connections: Connections at a time. One beyond gets status 503.
        refresh_seconds: Seconds between two looks for masks that were added, replaced or removed.

    Raises:
        ArgumentError: A limit that is not positive.

    Examples:
        >>> from supsup_models.serving import Limits
        >>> Limits(memory=100 << 20).batch
        128
    """

    memory: int = 1 << 30
    body: int = 16 << 20
    json: int = 4 << 20
    bodies: int = 64 << 20
    images: int = 1024
    waiting: int = 4096
    batch: int = 128
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    answer_seconds: float = 30.0
    connections: int = 512
    refresh_seconds: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ArgumentError(f"{field.name}: expected more than 0, found {getattr(self, field.name)}")
