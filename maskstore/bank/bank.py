"""`MaskBank`: many masks of one spec in one file.

SQLite gives transactions, crash safety and readers beside a writer (`maskstore.bank.open_file` holds those); this
module adds the masks. A `put` that returned is on the disk; one that did not left no trace.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

from maskstore.bank.blocks import AnyMask, SourceError
from maskstore.bank.head import new_head
from maskstore.bank.open_file import BankFile
from maskstore.bank.putting import NewMask, PutsMany
from maskstore.bank.read_bank import ReadBank
from maskstore.bank.rows import Rows, taken
from maskstore.bank.signs import PutsSigned
from maskstore.bank.sqlite import checked_page_size
from maskstore.codecs import AnyCodec
from maskstore.errors import (
    BankClosedError,
    BankExistsError,
    BankThreadError,
    CorruptError,
    MaskStoreError,
    NotABankError,
    SpecError,
)
from maskstore.files import (
    byte_limit,
    check_name,
    is_database,
    is_name,
    parse_object,
    path_of,
    same_json,
    seconds,
)
from maskstore.masks import MaskSpec
from maskstore.priors import Backbone, Prior, checked_backbone


class MaskBank(PutsSigned, PutsMany, ReadBank):
    """Many masks of one spec in one file: a mapping from task name to `Mask`, in insertion order.

    Make one with `create`, open one with `open`. A `put` that returned is on the disk; one that failed left no trace.
    Others may read a bank while it is written, and one writer at a time writes.

    A bank opened for reading may be used from any thread and after a fork: each gets a connection of its own. It can
    also be pickled, and is then opened anew by its path. A bank opened for writing belongs to the thread that opened it
    (`BankThreadError` elsewhere).

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0, "fc2": np.ones((5, 20), dtype=bool)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/tasks.bank"
        ...     with MaskBank.create(path, MaskSpec.of(masks), meta={"seed": 0}) as bank:
        ...         bank.put("task-0", masks, meta={"accuracy": 0.95})
        ...     with MaskBank.open(path) as bank:
        ...         print(list(bank), bank.meta, bank.task_meta("task-0"))
        ...         print(bank["task-0"].layer("fc1").sum(), bank.layer("task-0", "fc2").shape)
        ['task-0'] {'seed': 0} {'accuracy': 0.95}
        80 (5, 20)
    """

    def __init__(self, file: BankFile, *, limit: int | None = None, backbone: Backbone | None = None) -> None:
        if not isinstance(file, BankFile):  # callers try MaskBank("tasks.bank")
            raise NotABankError(
                f"MaskBank: expected a file that is open, found {type(file).__name__}; MaskBank.open(path) opens a "
                "bank, MaskBank.create(path, spec) makes one"
            )
        self._file = file
        self.limit = limit
        self._place = file.path.absolute()  # now: a later change of the working folder does not move the bank
        try:
            self.spec = MaskSpec.from_json(file.head["spec"])
            self.meta = parse_object(file.head["meta"])
        except MaskStoreError as error:
            file.close()
            raise CorruptError(f"{file.path}: {error}") from None
        self._rows = Rows(self.spec, limit, checked_backbone(backbone))

    # -- opening and closing ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        spec: MaskSpec,
        *,
        meta: Mapping[str, Any] | None = None,
        page_size: int | None = None,
        exist_ok: bool = False,
        timeout: float = 60.0,
        limit: int | None = None,
        backbone: Backbone | None = None,
    ) -> Self:
        """Create an empty bank and open it for writing.

        Args:
            path: Where no file is yet.
            spec: The layers of every mask.
            meta: JSON about the whole bank, such as the seed of the network.
            page_size: Bytes of a page of the file, a power of two from 512 to 65536. The default suits the size of one
                coded mask.
            exist_ok: Open the bank that is there already, with its masks, if it has these layers and, where `meta` is
                given, this metadata.
            timeout: Seconds to wait for another writer.
            limit, backbone: As in `open`.

        Raises:
            BankExistsError: The path is taken; with `exist_ok`, by another bank. What is no bank raises as in `open`.
            MaskValueError: JSON cannot hold `meta`.
            SpecError: There is no such page size.
            NetworkFileSystemError: The path is on a network file system.

        Examples:
            >>> import tempfile
            >>> from maskstore import MaskBank, MaskSpec
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec({"fc1": (20, 40)})) as bank:
            ...         len(bank)
            0
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     for _ in range(2):
            ...         with MaskBank.create(f"{folder}/b.bank", MaskSpec({"fc1": (2, 2)}), exist_ok=True) as bank:
            ...             bank.put("task-0", {"fc1": [[1, 0], [0, 1]]}, overwrite=True)
            ...             len(bank)
            1
            1
        """
        if not isinstance(spec, MaskSpec):
            raise SpecError(f"{path}: expected a spec such as MaskSpec.of(masks), found {type(spec).__name__}")
        place, timeout, limit = path_of(path), seconds(timeout), byte_limit(limit)
        size, head = checked_page_size(page_size, spec.bits), new_head(spec, meta or {})
        try:
            return cls(BankFile.create(place, size, head, timeout=timeout), limit=limit, backbone=backbone)
        except BankExistsError as error:
            if not exist_ok:
                hint = " (`exist_ok=True` opens it)" if place.is_file() and is_database(place) else ""
                raise BankExistsError(f"{error}{hint}") from None
        found = cls.open(path, "a", timeout=timeout, limit=limit, backbone=backbone)
        same_meta = meta is None or same_json(parse_object(head["meta"]), found.meta)
        if found.spec != spec or not same_meta:
            found.close()
            what = "metadata" if found.spec == spec else "layers"
            raise BankExistsError(f"{path}: expected a bank of the same {what}, found one of others")
        return found

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: str = "r",
        *,
        timeout: float = 60.0,
        limit: int | None = None,
        immutable: bool = False,
        backbone: Backbone | None = None,
    ) -> Self:
        """Open an existing bank.

        Args:
            path: The bank file.
            mode: "r" reads, "a" also writes.
            timeout: Seconds to wait for another writer.
            limit: The most bytes that one call may decode, for files from strangers. The default is ample for every
                bank but those of gigabits in a few bytes: 1 GiB, or 512 times the coded bytes if that is more. A byte
                of the codec `mix` counts as 512, one of `ans` as 9.
            immutable: Read the file as it lies there, without locks, because nobody writes to it. Only so is a bank on
                a network file system read. If the file changes all the same, a read that notices it starts anew or
                is an error; on a network file system a change may be noticed late.
            backbone: The weights that masks were coded against, if some have the prior `KeptWeights`.

        Raises:
            BankNotFoundError: There is no file.
            NetworkFileSystemError: The bank lies on a network file system, and is not read as `immutable`.
            NotABankError: The file is not a mask bank.
            FormatVersionError: A newer version of the format wrote the bank.
            CorruptError: The file is damaged.
            BankReadOnlyError: Mode "a" where one cannot write.
            BankBusyError: Mode "a", and another writer held the bank for longer than the timeout.
            SpecError: There is no such mode, or `immutable` with mode "a".
        """
        if mode not in ("r", "a"):
            raise SpecError(f'mode: expected "r" to read or "a" to write, found {mode!r:.20}')
        if immutable and mode == "a":
            raise SpecError('mode: expected "r" for a bank that is immutable, found "a"')
        limit = byte_limit(limit)
        file = BankFile(path_of(path), writable=mode == "a", timeout=seconds(timeout), immutable=bool(immutable))
        return cls(file, limit=limit, backbone=backbone)

    def close(self) -> None:
        """Close; a writer first folds its write-ahead log into the file. Closing twice is fine."""
        self._file.close()

    @property
    def backbone(self) -> Backbone | None:
        """The weights that masks were coded against: those given, or of the first mask that was put with any."""
        return self._rows.backbone

    def __contains__(self, name: object) -> bool:
        return is_name(name) and self._file.read(lambda link: self._rows.named(link, str(name))) is not None

    # -- writing ------------------------------------------------------------------------------------------------------

    def put(
        self,
        name: str,
        masks: AnyMask,
        *,
        meta: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
        codec: AnyCodec = "auto",
        prior: Prior | None = None,
        overwrite: bool = False,
    ) -> None:
        """Store a mask under a task name, atomically and durably.

        Inside `transaction()` the mask is durable when the block ends.

        Args:
            name: The task, 1 to 512 characters.
            masks: A `Mask`, or arrays of 0/1 values (memory maps too) by layer name, an open safetensors file, or pairs
                `(layer name, array)` in the order of the spec. A mask of 4 194 304 bits and more is coded and written
                block by block, with a few of them in memory, while the bank is locked.
            meta: JSON to store beside the mask.
            extras: Arrays of numbers that belong to the task, such as normalisation statistics.
            codec: A codec, or its name. "auto" keeps the smallest of the quick codecs, "max" of all.
            prior: What is known about the mask before its bits are seen; nothing if not given.
            overwrite: Replace a mask of this name. The new one takes the old one's place in the order.

        Raises:
            TaskExistsError: The name is taken, and `overwrite` is not set.
            SpecError: Layers or shapes are not the bank's, or the name cannot be one.
            MaskValueError: A value is not 0 or 1, or JSON cannot hold `meta`.
            TaskNotFoundError: The prior refers to a task that the bank does not have.
            CodecError: The prior refers to a mask that was itself coded against others.
            UnknownCodecError: There is no codec of that name.
            BackboneError: The prior needs weights that are not those of the bank, or not given.
            BankReadOnlyError: The bank was opened for reading.
            BankBusyError: Another writer held the bank for longer than the timeout.
            BankFullError: The disk is full.
        """
        self._put(NewMask(name, masks, codec, prior, meta, extras), overwrite=overwrite)

    def _put(self, new: NewMask, *, overwrite: bool) -> None:
        self._file.check_writable()
        check_name("task name", new.name)
        if not overwrite and new.name in self:  # before it is coded; `store` looks again
            raise taken(new.name)
        try:
            self._rows.backbone = new.over(self.backbone)
            new.code(self.spec)  # before the bank is locked, if it can be
            with self._file.changing() as link:
                if missing := [task for task in new.prior.tasks if task not in self]:
                    raise self._missing(missing[0])
                new.check_weights(link, self._rows)
                new.store(link, self._rows, self.spec, overwrite=overwrite)
        except SourceError as given:  # reading what the caller gave failed, and the bank has no part in it
            raise given.error from None

    def delete(self, name: str) -> None:
        """Remove a mask, atomically and durably. Masks that were coded against it keep what they need.

        Args:
            name: The task.

        Raises:
            TaskNotFoundError: There is no mask of that name.
            BankReadOnlyError: The bank was opened for reading.
            BankBusyError: Another writer held the bank for longer than the timeout.
        """
        self._file.check_writable()
        self._check_known(name)
        with self._file.changing() as link:
            if not self._rows.remove(link, name):
                raise self._missing(name)

    __delitem__ = delete

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes in the block together: either every one is stored, when the block ends, or none.

        A block inside another one is undone alone if its error is caught; it is stored when the outer one ends.
        """
        with self._file.transaction():
            yield

    # -- pieces ------------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """A bank opened for reading is pickled as its path, and opened anew where it is unpickled."""
        if self._file.closed:
            raise BankClosedError(f"{self.path}: expected an open bank to pickle, found it closed")
        if self.writable:
            raise BankThreadError(f"{self.path}: expected a bank opened for reading to pickle, found one opened for "
                                  f"writing (pickle its path, and open it there)")  # fmt: skip
        again = partial(type(self).open, limit=self.limit, immutable=self._file.immutable, backbone=self.backbone)
        return again, (self._place,)

    def __repr__(self) -> str:
        if self._file.closed:
            return f"MaskBank({str(self.path)!r}, closed)"
        try:
            count = str(len(self))
        except MaskStoreError:  # damaged, or in another thread than the one that writes
            count = "?"
        return f"MaskBank({str(self.path)!r}, {count} masks x {self.spec.bits} bits)"
