"""Serving of masks from a bank: a network runs under the masks in use, which lie in a cache of bounded size.

To switch to a mask in the cache costs nothing. Any other is decoded and multiplied with the weights first. A batch may
mix masks: images are grouped by mask, so each image runs through the network once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from maskstore import Mask, MaskMatrix
from maskstore.bank import MaskSource
from supsup_models._names import expect, whole_number
from supsup_models.data import checked_images
from supsup_models.errors import ArgumentError, ShapeError
from supsup_models.inference.given import check_extras, check_spec
from supsup_models.inference.labelling import NO_EXTRAS, finite_logits, run_groups
from supsup_models.networks import Extras, MaskedModel, TaskExtras, check_model

T = TypeVar("T")
DEFAULT_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class CacheState:
    """The cache of a `MaskServer` at one moment.

    Attributes:
        masks: How many masks lie there as effective weights.
        bytes: The size of all that is kept.
        hits: How often the weights of a mask were there.
        misses: How often they were not.
    """

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
        self.limit = limit
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
        if size > self.limit:
            return
        while self.bytes + size > self.limit:
            self.bytes -= self._kept.popitem(last=False)[1][1]
        self._kept[name] = (value, size)
        self.bytes += size

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0


class MaskServer:
    """Runs a network under the masks of a bank or a matrix, by task name.

    Any number of threads may share it: they wait for each other while weights are made, and then run side by side. A
    bank that is open for writing stays in its own thread, so threads that share a server need one that is open for
    reading. A copy in another process (pickled) starts with an empty cache.

    Args:
        model: The network.
        source: A bank or a shard, from which masks are read when they are first used, or a matrix.
        cache_bytes: The most bytes that are kept: seven eighths for effective weights, one eighth for packed masks with
            their statistics, which are a 32nd of the size and save decoding. The least recently used leave first. What
            is larger than its part is made each time.
        extras: The masks' normalisation statistics by name, where the source has none: a matrix never has any.

    Raises:
        ShapeError: The masks are of other layers than the network's.
        ArgumentTypeError: An argument is of a type that cannot be meant.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> from maskstore import MaskBank
        >>> from supsup_models import MaskedNetwork, MaskServer
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder, MaskBank.create(f"{folder}/m.bank", model.spec) as bank:
        ...     for number in range(3):
        ...         bank.put(f"task-{number}", model.mask_of(model.initial_scores(number)))
        ...     server = MaskServer(model, bank, cache_bytes=1 << 20)
        ...     logits = server(torch.ones(4, 64), ["task-2", "task-0", "task-2", "task-2"])
        ...     logits = server(torch.ones(4, 64), "task-2")
        >>> logits.shape
        torch.Size([4, 10])
        >>> server.state.hits, server.state.misses
        (1, 2)
    """

    def __init__(
        self,
        model: MaskedModel,
        source: MaskSource | MaskMatrix,
        *,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        extras: TaskExtras = NO_EXTRAS,
    ) -> None:
        check_model(model)
        hint = "MaskBank.open(path) opens one"
        expect("source", source, (MaskSource, MaskMatrix), "a bank, a shard or a MaskMatrix", str=hint, PurePath=hint)
        check_spec(model, source)
        check_extras(extras)
        if whole_number("cache_bytes", cache_bytes) < 0:
            raise ArgumentError(f"cache_bytes: expected 0 or more, found {cache_bytes}")
        self._model = model
        self._source = source
        self._packed: _Recent[_Stored] = _Recent(cache_bytes // 8)
        self._decoded: _Recent[Tensor] = _Recent(cache_bytes - cache_bytes // 8)
        self._given = extras
        self._has_statistics = model.has_extras
        self._hits = self._misses = 0
        self._lock = RLock()  # over all that changes: the two caches, the counts, and the source that fills them

    def __reduce__(self) -> tuple[Any, ...]:
        limits = self._packed.limit + self._decoded.limit
        return _again, (type(self), self._model, self._source, limits, dict(self._given))

    @property
    def state(self) -> CacheState:
        """The cache as it is now."""
        with self._lock:
            size = self._decoded.bytes + self._packed.bytes
            return CacheState(len(self._decoded), size, self._hits, self._misses)

    def __repr__(self) -> str:
        state = self.state
        return (
            f"MaskServer({len(self._source)} masks of {self._model.spec.bits} bits; cache: {state.masks} masks, "
            f"{state.bytes} bytes, {state.hits} hits, {state.misses} misses)"
        )

    def weights(self, task: str) -> Tensor:
        """W times a task's mask, flat `(spec.bits,)`. Do not write to it.

        Raises:
            TaskNotFoundError: The source has no such task.
        """
        with self._lock:
            found = self._decoded.get(task)
            if found is not None:
                self._hits += 1
                return found
            self._misses += 1
            made = self._model.masked_weights(self._stored(task).mask)
            self._decoded.put(task, made, made.numel() * made.element_size())
            return made

    def extras(self, task: str) -> Extras:
        """A task's normalisation statistics, None for a network without any.

        Raises:
            TaskNotFoundError: The source has no such task.
            MissingStatisticsError: The network needs statistics, and the task has none.
        """
        if not self._has_statistics:
            return None
        with self._lock:
            return self._model.needed_extras(self._stored(task).extras)

    def _stored(self, task: str) -> "_Stored":
        """What the source holds of a task, kept."""
        found = self._packed.get(task)
        if found is None:
            extras = self._given.get(task)
            if extras is None and self._has_statistics and isinstance(self._source, MaskSource):
                extras = self._source.extras(task)
            found = _Stored(self._source[task], extras)
            self._packed.put(task, found, found.mask.nbytes + sum(array.nbytes for array in (extras or {}).values()))
        return found

    @torch.no_grad()
    def __call__(self, images: Any, tasks: str | Sequence[str]) -> Tensor:
        """Logits of images, all under one task's mask, or each under that of its own task.

        Args:
            images: `(b, inputs)`, a tensor or an array, normalised as in training.
            tasks: A task's name, or one name for each image.

        Returns:
            `(b, outputs)`.

        Raises:
            ShapeError: The images do not fit the network, or there are more or fewer names.
            ImageValueError: The images hold NaN or infinity, are too large for the network's arithmetic, or are uint8.
            TaskNotFoundError: The source has no such task.
            MissingStatisticsError: The network needs statistics, and a task has none.
        """
        images = checked_images(images, self._model)
        if isinstance(tasks, str):
            return finite_logits(self._model.run_with(images, self.weights(tasks), self.extras(tasks)))
        listed: Any = tasks
        tasks = listed.tolist() if isinstance(listed, np.ndarray) and listed.ndim == 1 else listed
        expect("tasks", tasks, Sequence, "a task's name, or one for each image")
        for task in tasks:
            expect("tasks", task, str, "names of tasks")
        if len(tasks) != len(images):
            raise ShapeError(f"tasks: expected a name for each of {len(images)} images, found {len(tasks)}")
        numbers: dict[str, int] = {}
        rows = np.array([numbers.setdefault(task, len(numbers)) for task in tasks])
        names = list(numbers)
        return run_groups(self._model, images, rows, lambda row: (self.weights(names[row]), self.extras(names[row])))

    def forget(self) -> None:
        """Empty the cache. Call it after a mask was replaced in the bank."""
        with self._lock:
            self._decoded.clear()
            self._packed.clear()


def _again(
    kind: type[MaskServer], model: MaskedModel, source: MaskSource | MaskMatrix, cache_bytes: int, extras: TaskExtras
) -> MaskServer:
    """A server as it was made, in the process that a pickle was sent to."""
    return kind(model, source, cache_bytes=cache_bytes, extras=extras)


def serve(
    model: MaskedModel,
    source: MaskSource | MaskMatrix,
    *,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    extras: TaskExtras = NO_EXTRAS,
) -> MaskServer:
    """A `MaskServer` over a bank or a matrix; arguments and errors are those of the class.

    Examples:
        >>> import torch
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, serve
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> matrix = MaskMatrix(model.spec)
        >>> for name in ("cats", "dogs"):
        ...     matrix.append(name, model.mask_of(model.initial_scores(len(matrix))))
        >>> server = serve(model, matrix)
        >>> server(torch.ones(3, 64), ["dogs", "cats", "dogs"]).shape
        torch.Size([3, 10])
    """
    return MaskServer(model, source, cache_bytes=cache_bytes, extras=extras)
