"""What a server counts, in the form that Prometheus reads."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one engine, in a registry of its own; `docs/serving.md` says what they mean."""

    def __init__(self, engine: Any) -> None:
        self._registry = CollectorRegistry()
        own = self._registry
        self.requests = Counter(
            "supsup_requests", "Requests by endpoint and status.", ("endpoint", "status"), registry=own
        )
        self.seconds = Histogram(
            "supsup_request_seconds", "Seconds to an answer.", ("endpoint",), buckets=_SECONDS, registry=own
        )
        images = Counter("supsup_images", "Images asked about, with a named task or without.", ("task",), registry=own)
        self.named, self.inferred = images.labels("named"), images.labels("inferred")
        self.none_of_these = Counter("supsup_none_of_these", "Inferred images of none of the tasks.", registry=own)
        self.batch_images = Histogram("supsup_batch_images", "Images that ran together.", buckets=_POWERS, registry=own)
        self.batch_masks = Histogram(
            "supsup_batch_masks", "Masks of images that ran together.", buckets=_POWERS, registry=own
        )
        counts = engine.residents.counts
        self._gauge("supsup_tasks", "Tasks in the source.", lambda: len(engine.residents.names))
        self._gauge("supsup_waiting_images", "Images that wait for their turn.", lambda: engine.waiting)
        self._gauge("supsup_resident_masks", "Masks in memory.", lambda: len(engine.residents))
        self._gauge("supsup_resident_bytes", "Bytes of the masks in memory.", lambda: engine.residents.nbytes)
        self._gauge("supsup_pinned_masks", "Pinned masks.", lambda: len(engine.residents.pinned))
        self._gauge("supsup_matrix_bytes", "Bytes of the masks that infer tasks.", lambda: engine.matrix_bytes)
        self._gauge("supsup_mask_hits", "Masks found in memory, so far.", lambda: counts.hits)
        self._gauge("supsup_mask_loads", "Masks read from the source, so far.", lambda: counts.loads)
        self._gauge("supsup_mask_evictions", "Masks put out for others, so far.", lambda: counts.evictions)

    def _gauge(self, name: str, says: str, value: Callable[[], float]) -> None:
        Gauge(name, says, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
