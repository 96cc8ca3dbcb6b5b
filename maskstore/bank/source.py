"""`MaskSource`: what banks and shards have in common when they are read."""

import os
from abc import abstractmethod
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.coding import (
    charge,
    check_content,
    decode_mask,
    decode_on_demand,
    decode_one,
    in_blocks,
    open_blocks,
)
from maskstore.bank.extras import decode_extras
from maskstore.bank.record import MaskInfo, Record
from maskstore.bank.signs import check_signed, decode_signed, signed_sizes
from maskstore.codecs import FREE_BYTES, RATIO, Budget
from maskstore.errors import ArgumentTypeError, MaskStoreError, TaskNotFoundError
from maskstore.files import parse_object, wanted_now, wanted_until
from maskstore.masks import Mask, MaskMatrix, MaskSpec, SignedMask

T = TypeVar("T")
_BATCH = 64  # records read at a time while scanning
_BATCH_BYTES = 1 << 28  # packed masks that are decoded at a time


def check_source(source: object) -> None:
    """ArgumentTypeError for what is no open bank or shard."""
    if not isinstance(source, MaskSource):
        raise ArgumentTypeError(
            f"source: expected an open bank or shard, found {type(source).__name__}; open_source(path) opens one"
        )


def decode_layers(record: Record, spec: MaskSpec) -> Iterator[NDArray[np.uint64]]:
    """The packed words of each layer of a record, in order; of a mask in blocks, one layer at a time is in memory.

    What it costs is for the caller to count (`MaskSource.map_records` does).
    """
    if in_blocks(record.codec):
        decoder = open_blocks(record, spec)
        yield from map(decoder.decode_layer, range(len(spec)))
    else:
        mask = decode_mask(record, spec)
        yield from (mask.words[layer.packed] for layer in spec)


class MaskSource(Mapping[str, Mask]):
    """Masks of one spec that can be read: a `MaskBank` or a `ShardReader`. `open_source` opens either.

    A mapping from task name to `Mask`, in insertion order. `items`, `values`, `masks` and `matrix` read many records at
    a time and decode them on all cores.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSource, MaskSpec
        >>> def densities(source: MaskSource) -> dict[str, float]:
        ...     return {name: mask.ones / source.spec.bits for name, mask in source.items()}
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks)
        ...         densities(bank)
        {'task-0': 0.1}
    """

    spec: MaskSpec
    """The layers of every mask."""
    meta: dict[str, Any]
    """What was stored about all masks together, such as the seed of the network."""
    limit: int | None = None
    """The most bytes of masks that one call may decode (`LimitError`); None is a default that forged files meet."""

    __eq__ = object.__eq__  # two open files are the same only if they are one object
    __hash__ = object.__hash__

    @abstractmethod
    def record(self, name: str) -> Record:
        """The stored row of a mask, its checksum checked; TaskNotFoundError if there is none."""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """All stored rows in insertion order, checksums checked."""

    @abstractmethod
    def info(self, name: str) -> MaskInfo:
        """Metadata, codec, prior and sizes of a mask, for listings; nothing is decoded."""

    @abstractmethod
    def close(self) -> None:
        """Release the file. Closing twice is fine."""

    @abstractmethod
    def _check_file(self) -> None:
        """CorruptError unless everything in the file beside the records is as it was written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MaskStoreError:
            if error is None:  # the error that ended the block says more than the one it causes on the way out
                raise

    def __getitem__(self, name: str) -> Mask:
        """The mask of a task, packed; its checksums are checked. TaskNotFoundError if there is none.

        The layers of a mask of 4 194 304 bits and more are decoded when they are first used.
        """
        return self._of_record(name, lambda record: decode_on_demand(record, self.spec))

    def items(self) -> ItemsView[str, Mask]:
        """All (name, mask) pairs in insertion order."""
        return _Items(self)

    def values(self) -> ValuesView[Mask]:
        """All masks in insertion order."""
        return _Values(self)

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """All (name, mask) pairs in insertion order, decoded on all cores."""
        for row, mask in self._decoded():
            yield row.name, mask

    def matrix(self, names: Sequence[str] | None = None) -> MaskMatrix:
        """All masks, or those named, as packed rows ready for inference.

        Args:
            names: Tasks, in the order that the rows shall have; all in insertion order if not given.

        Raises:
            TaskNotFoundError: There is no mask of one of the names.
        """
        if isinstance(names, str):
            raise TaskNotFoundError(f"names: expected a list of names, found one text: give [{names!r:.80}]")
        decoded = self._decoded() if names is None else self._named(names)
        result, count = MaskMatrix(self.spec), len(self) if names is None else len(names)
        for row, mask in decoded:  # one must be there before memory for all that a forged file claims is taken
            if not len(result):
                ordinary = RATIO * len(row.data) >= mask.nbytes
                room = count if ordinary else min(count, FREE_BYTES // (mask.nbytes + 1))
                result = MaskMatrix(self.spec, room=room)
            result.append(row.name, mask)
        return result

    def dense(self, name: str) -> dict[str, NDArray[np.bool_]]:
        """All layers of one mask as bool arrays of their shapes, in spec order; their bytes count for the limit too."""
        return decode_mask(self.record(name), self.spec, unpacked=True).dense()

    def layer(self, name: str, layer: str, rows: slice | None = None) -> NDArray[np.bool_]:
        """One layer of one mask, a bool array of the layer's shape; the checksums of what is read are checked.

        The other layers are not decoded, and of large masks not read. Masks that it was coded against are decoded
        whole.

        Args:
            name: The task.
            layer: The layer.
            rows: A slice of the layer's first dimension. Of masks of 4 194 304 bits and more, only the blocks that hold
                these rows are read.

        Raises:
            TaskNotFoundError: There is no mask of that name.
            LayerNotFoundError: There is no layer of that name.
            SpecError: `rows` is no slice, or the layer has no dimension.

        Examples:
            >>> import numpy as np, tempfile
            >>> from maskstore import MaskBank, MaskSpec
            >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
            ...         bank.put("task-0", masks)
            ...         bank.layer("task-0", "fc1").shape, bank.layer("task-0", "fc1", rows=slice(5, 8)).shape
            ((20, 40), (3, 40))
        """
        index = self.spec.index(layer)
        return self._of_record(name, lambda record: decode_one(record, self.spec, index, rows))

    def _of_record(self, name: str, work: Callable[[Record], T]) -> T:
        """What `work` makes of the record of a mask, of which as little as possible is read before it is needed."""
        return work(self.record(name))

    def signed(self, name: str) -> SignedMask:
        """A mask with its signs and scales, as `MaskBank.put_signed` was given it; its checksums are checked.

        TaskNotFoundError if there is none, or if it has no signs. `source[name]` is the mask alone.
        """
        return decode_signed(self.record(name), self.spec)

    def sign_bytes(self, name: str) -> int:
        """Bytes of a mask's coded signs, which are among its extra arrays; 0 for a mask without. Nothing is decoded."""
        return signed_sizes(self.record(name))[0]

    def _named_records(self, names: Sequence[str]) -> Iterator[Record]:
        """The rows of names, in this order."""
        return map(self.record, names)

    def task_meta(self, name: str) -> dict[str, Any]:
        """The metadata stored beside a mask; its checksum is checked."""
        return parse_object(self.record(name).meta)

    def extras(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays stored beside a mask, such as normalisation statistics."""
        return decode_extras(self.record(name).extras, name, self.limit)

    def infos(self) -> list[MaskInfo]:
        """`info` of all masks, in insertion order."""
        return [self.info(name) for name in self]

    def verify(self) -> int:
        """Check every byte of the file and decode every mask.

        Returns:
            The number of masks.

        Raises:
            CorruptError: Names the first thing that is not as it was written.
        """
        self._check_file()

        def check(row: Record) -> None:
            check_content(row, self.spec)
            check_signed(row, self.spec)

        return sum(1 for _ in self.map_records(check))

    def map_records(self, work: Callable[[Record], T]) -> Iterator[tuple[Record, T]]:
        """(row, work(row)) for all rows in insertion order; work runs on all cores, a batch of rows at a time.

        A batch has as many rows as have 256 MiB of masks, at least one and at most 64. LimitError if all rows together
        cost more to decode than `limit` allows.
        """
        ahead, budget, ended = decoded_ahead(self.spec), Budget(self.limit), Event()
        until = (ended, *wanted_now())

        def refusal(row: Record) -> MaskStoreError | None:
            try:
                charge(row, self.spec, budget)
            except MaskStoreError as error:
                return error
            return None

        def one(row: Record, refused: MaskStoreError | None) -> T:
            if refused is not None:
                raise refused
            with wanted_until(*until):
                return work(row)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            rows = self.records()
            try:
                while batch := list(islice(rows, ahead)):
                    yield from zip(batch, pool.map(one, batch, map(refusal, batch)), strict=True)
            finally:
                ended.set()  # after an interrupt, the masks that are being decoded are wanted no more

    def _decoded(self) -> Iterator[tuple[Record, Mask]]:
        return self.map_records(lambda row: decode_mask(row, self.spec))

    def _named(self, names: Sequence[str]) -> Iterator[tuple[Record, Mask]]:
        budget = Budget(self.limit)
        for row in self._named_records(names):
            charge(row, self.spec, budget)
            yield row, decode_mask(row, self.spec)


class _Items(ItemsView[str, Mask]):
    _mapping: MaskSource

    def __iter__(self) -> Iterator[tuple[str, Mask]]:
        return self._mapping.masks()


class _Values(ValuesView[Mask]):
    _mapping: MaskSource

    def __iter__(self) -> Iterator[Mask]:
        return (mask for _, mask in self._mapping.masks())


def decoded_ahead(spec: MaskSpec) -> int:
    """How many masks are decoded side by side while scanning."""
    return max(1, min(_BATCH, _BATCH_BYTES // (8 * spec.words + 1)))
