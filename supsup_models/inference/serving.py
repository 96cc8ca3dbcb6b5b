"""Serving from a bank: effective weights of the masks in use, in a cache of bounded size.

Switching to a mask in the cache costs nothing, to another one decoding and one product with the weights. A batch may
mix masks: images are grouped by mask, so each runs through the network once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from maskstore import Mask, MaskBank, MaskMatrix
from supsup_models.data import checked_images
from supsup_models.errors import ShapeError
from supsup_models.inference.labelling import NO_EXTRAS
from supsup_models.networks import Extras, MaskedModel, TaskExtras

T = TypeVar("T")
DEFAULT_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class CacheState:
    """How many masks lie decoded in the cache, the bytes of all that is kept, and how often one was there or not."""

    masks: int
    bytes: int
    hits: int
    misses: int


class _Stored(NamedTuple):
    """A task's mask, packed, and its normalisation statistics."""

    mask: Mask
    extras: Extras


class _Recent(Generic[T]):
    """Values by name, up to a number of bytes; the least recently used leave first."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._kept: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str) -> T | None:
        if name not in self._kept:
            return None
        self._kept.move_to_end(name)
        return self._kept[name][0]

    def put(self, name: str, value: T, size: int) -> None:
        """Keep a new value, unless it is larger than all the room."""
        if size > self._limit:
            return
        while self.bytes + size > self._limit:
            self.bytes -= self._kept.popitem(last=False)[1][1]
        self._kept[name] = (value, size)
        self.bytes += size

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0


class MaskServer:
    """Runs a network under the masks of a bank or a matrix, asked for by task name.

    `cache_bytes` bounds what is kept: seven eighths for effective weights, one eighth for masks as packed bits (with
    their normalisation statistics), which take a 32nd of the room and spare a bank's decoder. The least recently used
    leave. What is larger than its bound is made each time. One thread at a time, like the bank.

    Normalisation statistics come from the bank too; a matrix has none, so `extras` brings them, by task name.
    """

    def __init__(
        self,
        model: MaskedModel,
        source: MaskBank | MaskMatrix,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        extras: TaskExtras = NO_EXTRAS,
    ) -> None:
        if source.spec != model.spec:
            raise ShapeError(f"masks: expected the layers of {model.spec!r}, found {source.spec!r}")
        self._model = model
        self._source = source
        self._packed: _Recent[_Stored] = _Recent(cache_bytes // 8)
        self._decoded: _Recent[Tensor] = _Recent(cache_bytes - cache_bytes // 8)
        self._given = extras
        self._has_statistics = bool(model.initial_statistics())
        self._hits = self._misses = 0

    @property
    def state(self) -> CacheState:
        """The cache as it is now."""
        size = self._decoded.bytes + self._packed.bytes
        return CacheState(len(self._decoded), size, self._hits, self._misses)

    def weights(self, task: str) -> Tensor:
        """W times a task's mask, flat `(spec.bits,)`, not to be written to; TaskNotFoundError for an unknown task."""
        found = self._decoded.get(task)
        if found is not None:
            self._hits += 1
            return found
        self._misses += 1
        made = self._model.masked_weights(self._stored(task).mask)
        self._decoded.put(task, made, made.numel() * made.element_size())
        return made

    def extras(self, task: str) -> Extras:
        """A task's normalisation statistics; None for networks and matrices without any."""
        return self._stored(task).extras if self._has_statistics else None

    def _stored(self, task: str) -> "_Stored":
        """What the source holds of a task, kept."""
        found = self._packed.get(task)
        if found is None:
            extras = self._given.get(task)
            if extras is None and self._has_statistics and isinstance(self._source, MaskBank):
                extras = self._source.extras(task)
            found = _Stored(self._source[task], extras)
            self._packed.put(task, found, found.mask.nbytes + sum(array.nbytes for array in (extras or {}).values()))
        return found

    @torch.no_grad()
    def __call__(self, images: Tensor, tasks: str | Sequence[str]) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, all under one task's mask, or each under that of its own task.

        Raises ShapeError or ImageValueError for images that do not fit, TaskNotFoundError for an unknown task.
        """
        images = checked_images(images, self._model)
        if isinstance(tasks, str):
            return self._model.run_with(images, self.weights(tasks), self.extras(tasks))
        if len(tasks) != len(images):
            raise ShapeError(f"tasks: expected a name for each of {len(images)} images, found {len(tasks)}")
        groups: dict[str, list[int]] = {}
        for index, task in enumerate(tasks):
            groups.setdefault(task, []).append(index)
        logits = images.new_empty(len(images), self._model.outputs)
        for task, indices in groups.items():
            chosen = torch.tensor(indices, device=images.device)
            logits[chosen] = self._model.run_with(images[chosen], self.weights(task), self.extras(task))
        return logits

    def forget(self) -> None:
        """Empty the cache, as after a mask was replaced in the bank."""
        self._decoded.clear()
        self._packed.clear()


def serve(
    model: MaskedModel,
    source: MaskBank | MaskMatrix,
    *,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    extras: TaskExtras = NO_EXTRAS,
) -> MaskServer:
    """A `MaskServer` over a bank (masks are read as they are asked for) or a matrix (all packed in memory).

    Raises ShapeError if the masks are of other layers than the network's.
    """
    return MaskServer(model, source, cache_bytes=cache_bytes, extras=extras)
