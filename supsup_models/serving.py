"""Serving from a bank: effective weights of the masks in use, in a cache of bounded size.

Switching to a mask in the cache costs nothing, to another one decoding and one product with the weights. A batch may
mix masks: images are grouped by mask, so each runs through the network once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskstore import Mask, MaskBank, MaskMatrix
from supsup_models.errors import ShapeError
from supsup_models.networks import MaskedNetwork
from supsup_models.training import checked_images

DEFAULT_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class CacheState:
    """How many masks lie decoded in the cache, their bytes, and how often a mask was found there or had to be made."""

    masks: int
    bytes: int
    hits: int
    misses: int


class MaskServer:
    """Runs a network under the masks of a bank or a matrix, asked for by task name.

    `cache_bytes` bounds what is kept decoded: the least recently used masks leave. A mask that is larger than the bound
    is made each time. One thread at a time, like the bank.
    """

    def __init__(
        self, model: MaskedNetwork, source: MaskBank | MaskMatrix, *, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        if source.spec != model.spec:
            raise ShapeError(f"masks: expected the layers of {model.spec!r}, found {source.spec!r}")
        self._model = model
        self._source = source
        self._limit = cache_bytes
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = self._hits = self._misses = 0

    @property
    def state(self) -> CacheState:
        """The cache as it is now."""
        return CacheState(len(self._cache), self._bytes, self._hits, self._misses)

    def weights(self, task: str) -> Tensor:
        """W times a task's mask, flat `(spec.bits,)`, not to be written to; TaskNotFoundError for an unknown task."""
        found = self._cache.get(task)
        if found is not None:
            self._hits += 1
            self._cache.move_to_end(task)
            return found
        mask: Mask = self._source[task]
        self._misses += 1
        made = self._model.masked_weights(mask)
        size = made.numel() * made.element_size()
        if size > self._limit:
            return made
        while self._bytes + size > self._limit:
            _, dropped = self._cache.popitem(last=False)
            self._bytes -= dropped.numel() * dropped.element_size()
        self._cache[task] = made
        self._bytes += size
        return made

    @torch.no_grad()
    def __call__(self, images: Tensor, tasks: str | Sequence[str]) -> Tensor:
        """Logits `(b, outputs)` of images `(b, inputs)`, all under one task's mask, or each under that of its own task.

        Raises ShapeError or ImageValueError for images that do not fit, TaskNotFoundError for an unknown task.
        """
        images = checked_images(images, self._model)
        if isinstance(tasks, str):
            return self._model.run_with(images, self.weights(tasks))
        if len(tasks) != len(images):
            raise ShapeError(f"tasks: expected a name for each of {len(images)} images, found {len(tasks)}")
        groups: dict[str, list[int]] = {}
        for index, task in enumerate(tasks):
            groups.setdefault(task, []).append(index)
        logits = images.new_empty(len(images), self._model.outputs)
        for task, indices in groups.items():
            chosen = torch.tensor(indices, device=images.device)
            logits[chosen] = self._model.run_with(images[chosen], self.weights(task))
        return logits

    def forget(self) -> None:
        """Empty the cache, as after a mask was replaced in the bank."""
        self._cache.clear()
        self._bytes = 0


def serve(model: MaskedNetwork, source: MaskBank | MaskMatrix, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> MaskServer:
    """A `MaskServer` over a bank (masks are read as they are asked for) or a matrix (all packed in memory).

    Raises ShapeError if the masks are of other layers than the network's.
    """
    return MaskServer(model, source, cache_bytes=cache_bytes)
