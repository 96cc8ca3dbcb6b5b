"""Masks in memory: packed, up to a number of bytes, the least recently used leave first, pinned ones stay.

One thread uses an object of this class. Others may read `names`, `pinned`, what is in memory, and the counts.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from maskstore.errors import MaskStoreError, TaskNotFoundError
from supsup_models.errors import RequestError
from supsup_models.networks import PROTOTYPES, Extras, OwnMasks
from supsup_models.serving.served import Served


class _Resident(NamedTuple):
    slot: int
    extras: Extras
    stamp: bytes
    generation: int
    """Of the source, when the mask was last found to be the source's."""


@dataclass
class Counts:
    """How often masks were found in memory, read from the source, and put out."""

    hits: int = 0
    loads: int = 0
    evictions: int = 0


class Residents:
    """The packed masks of a source that are in memory, each in a slot of one array."""

    def __init__(self, served: Served, memory: int) -> None:
        self._served, self._model = served, served.model
        self._statistics = self._model.initial_extras()
        extra = sum(each.numel() * each.element_size() for each in self._statistics.values())
        self.mask_bytes = 8 * self._model.spec.words + extra
        self.room = memory // self.mask_bytes
        if not self.room:
            raise RequestError(
                f"memory: expected room for a mask of {self.mask_bytes} bytes, found {memory} bytes; raise `memory`",
                409,
            )
        # the system gives memory to a slot when it is first written
        self._rows = np.empty((self.room, self._model.spec.words), dtype=np.uint64)
        self._free = list(range(self.room - 1, -1, -1))
        self._kept: OrderedDict[str, _Resident] = OrderedDict()
        self._pinned: frozenset[str] = frozenset()
        self._signature: object = object()
        self._look_again = False
        self.counts = Counts()
        self.names: tuple[str, ...] = ()
        self.generation = 0
        """How often the source was found changed."""
        self.refresh()

    @property
    def nbytes(self) -> int:
        """Bytes of the masks in memory."""
        return len(self._kept) * self.mask_bytes

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def pinned(self) -> frozenset[str]:
        """The names of the pinned masks."""
        return self._pinned

    def __contains__(self, name: str) -> bool:
        """Whether a mask is in memory."""
        return name in self._kept

    def own_masks(self, names: Sequence[str]) -> tuple[OwnMasks, dict[int, Extras]]:
        """The mask of each name, all of them in memory by then, and the statistics by slot; `names` fit the memory."""
        needed = frozenset(names)
        for name in needed:
            self._load(name, needed)
        kept = [self._kept[name] for name in names]
        own = OwnMasks(self._model.spec, self._rows, np.array([each.slot for each in kept], dtype=np.int64))
        return own, {each.slot: each.extras for each in kept} if self._statistics else {}

    def load(self, name: str) -> None:
        """Bring a mask into memory."""
        self._load(name, frozenset((name,)))

    def unload(self, name: str) -> bool:
        """Put a mask out of memory; whether it was there. RequestError for a pinned one."""
        if name in self._pinned:
            raise RequestError(f"task {name!r:.80}: expected a mask that is not pinned, found it pinned; unpin it", 409)
        self._check_known(name)
        return self._drop(name)

    def pin(self, name: str) -> None:
        """Keep a mask in memory until it is unpinned. RequestError if pinned masks would leave no room for others."""
        if len(self._pinned | {name}) >= self.room:
            raise RequestError(
                f"task {name!r:.80}: expected fewer than {self.room} pinned masks, for which there is memory, found as "
                "many; unpin one",
                409,
            )
        self.load(name)
        self._pinned |= {name}

    def unpin(self, name: str) -> None:
        """Let a mask leave when its room is needed."""
        self._check_known(name)
        self._pinned -= {name}

    def refresh(self) -> None:
        """Look what the source holds now. Masks that were removed leave, and replaced ones when they are next used."""
        signature = self._served.signature()
        changed_now = signature != self._signature
        if not changed_now and not self._look_again:
            return
        # once more at the next look: times of files are coarse, and a write that follows at once may not show in them
        self._look_again = changed_now
        names, stamps = tuple(self._served.source), self._served.stamps()
        self.names, self._signature = names, signature
        self.generation += 1
        gone = (self._kept.keys() | self._pinned) - set(names)
        for name in gone:
            self._drop(name)
        self._pinned -= gone
        for name, kept in list(self._kept.items()):
            if stamps.get(name) == kept.stamp:
                self._kept[name] = kept._replace(generation=self.generation)

    def _is_current(self, name: str, kept: _Resident) -> bool:
        """Whether a mask in memory is the source's, which is looked up when it is first used after a change."""
        if kept.generation == self.generation:
            return True
        try:
            if self._stamp(name) != kept.stamp:
                return False
        except MaskStoreError:  # the source cannot be read at the moment: what is in memory goes on
            return True
        self._kept[name] = kept._replace(generation=self.generation)
        return True

    def _load(self, name: str, needed: frozenset[str]) -> None:
        kept = self._kept.get(name)
        if kept is not None:
            try:
                current = self._is_current(name, kept)
            except RequestError:  # it was removed
                self._drop(name)
                raise
            if current:
                self._kept.move_to_end(name)
                self.counts.hits += 1
                return
            self._drop(name)
        source = self._served.source
        stamp = self._stamp(name)  # before the mask: one that is replaced in between is read again at the next refresh
        mask = source[name]
        extras: Extras = None
        if self._statistics:
            found = self._model.needed_extras(source.extras(name))
            used = {} if found is None else {key: each for key, each in found.items() if key != PROTOTYPES}
            extras = found and {key: self._tensor(key, value) for key, value in used.items()}
        if not self._free:
            stay = self._pinned | needed
            self._drop(next(each for each in self._kept if each not in stay))
            self.counts.evictions += 1
        slot = self._free.pop()
        self._rows[slot] = mask.words
        self._kept[name] = _Resident(slot, extras, stamp, self.generation)
        self.counts.loads += 1

    def _tensor(self, key: str, value: Any) -> torch.Tensor:
        """Extras as the network takes them; what it does not know is refused when it runs."""
        like = self._statistics.get(key)
        return torch.as_tensor(value) if like is None else torch.as_tensor(value).to(like)

    def _stamp(self, name: str) -> bytes:
        try:
            return self._served.stamp(name)
        except TaskNotFoundError:
            raise unknown_task(name, len(self.names)) from None

    def _check_known(self, name: str) -> None:
        if name not in self._kept and name not in self._served.source:
            raise unknown_task(name, len(self.names))

    def _drop(self, name: str) -> bool:
        kept = self._kept.pop(name, None)
        if kept is None:
            return False
        self._free.append(kept.slot)
        return True


def unknown_task(name: str, tasks: int) -> RequestError:
    """For a name that the source does not have."""
    return RequestError(
        f"task {name!r:.80}: expected one of {tasks} tasks, found no such task; GET /tasks lists them", 404
    )
