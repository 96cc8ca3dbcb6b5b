"""Writes the index of a bank, a group of masks in memory at a time."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from maskstore.bank import MaskBank
from maskstore.errors import WriteConflictError
from maskstore.files import path_of, replacing
from maskstore.index.layout import Header, Places, digest_of, digests_of, group_of
from maskstore.kernels import LANES
from maskstore.masks import Mask, MaskMatrix

_HEX = "0" * 32


def beside(bank: str | Path) -> Path:
    """Where the index of a bank is unless something else is said: the bank's path and `.index`."""
    path = Path(bank)
    return path.with_name(path.name + ".index")


def write_index(bank: MaskBank, path: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the masks of a bank as a file that `open_index` maps: by mask, and by chunk of all masks.

    The file takes two bits for each bit of the masks. A few hundred megabytes of memory are taken at most, if no mask
    is larger; masks of more than 4 MB are taken sixteen at a time.

    Args:
        bank: The bank, which may be open for reading only.
        path: The new file; by default the bank's own path and `.index`.
        overwrite: Replace a file that is there.

    Returns:
        The file's path.

    Raises:
        BankExistsError: There is a file, and `overwrite` is not set.
        WriteConflictError: The bank changed meanwhile.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec, open_index, write_index
        >>> rng = np.random.default_rng(0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec({"fc": (32, 64)})) as bank:
        ...         for task in range(20):
        ...             bank.put(f"task-{task}", {"fc": rng.random((32, 64)) < 0.5})
        ...         path = write_index(bank)
        ...         matrix = open_index(path, bank=bank)
        ...         matrix["task-7"] == bank["task-7"], path.name
        (True, 'tasks.bank.index')
    """
    target = beside(bank.path) if path is None else path_of(path, "path")
    spec, names, stamp = bank.spec, list(bank), bank.stamp()
    blocks, group = len(names) // LANES, group_of(bank.spec)
    counts = np.zeros(spec.bits, dtype="<i4")
    blank = Header(spec, names, stamp, _HEX, [])
    blank = replace(blank, pieces=[_HEX] * len(Places.of(spec, len(names), 0).pieces))
    places = Places.of(spec, len(names), len(blank.to_bytes()))
    with replacing(target, overwrite=overwrite, remedy="`overwrite=True` replaces it") as scratch:
        with scratch.open("wb") as file:
            file.truncate(places.end)
        mapped = None
        if blocks:
            shape = (2 * spec.words, blocks, LANES)
            mapped = np.memmap(scratch, dtype="<u4", mode="r+", offset=places.blocks, shape=shape)
        first, tail = 0, b""
        with scratch.open("r+b") as file:
            file.seek(places.rows)
            for some in _groups(bank, group * LANES):
                if list(some.names) != names[LANES * first : LANES * first + len(some)]:
                    raise _changed(bank)
                counts += some.counts()
                masks = some.interleaved
                if mapped is not None and len(masks.blocks):
                    mapped[:, first : first + len(masks.blocks)] = masks.blocks.transpose(1, 0, 2)
                    file.write(some.rows[: LANES * len(masks.blocks)].astype("<u8", copy=False).data)
                first, tail = first + len(masks.blocks), masks.tail.astype("<u8").tobytes()
                file.write(tail)
        if first != blocks or bank.stamp() != stamp:
            raise _changed(bank)
        if mapped is not None:
            mapped.flush()
            del mapped
        small = digest_of(counts.tobytes() + tail).hex()
        with scratch.open("r+b") as file:
            pieces = digests_of(file, places)
            file.seek(0)
            file.write(Header(spec, names, stamp, small, pieces).to_bytes())
            file.seek(places.counts)
            file.write(counts.tobytes())
    return target


def _groups(bank: MaskBank, size: int) -> Iterator[MaskMatrix]:
    masks: Iterator[tuple[str, Mask]] = bank.masks()
    while some := list(islice(masks, size)):
        yield MaskMatrix(bank.spec, [mask for _, mask in some], [name for name, _ in some])


def _changed(bank: MaskBank) -> WriteConflictError:
    return WriteConflictError(
        f"{bank.path}: expected a bank that stays as it is while its index is written, found that it changed; try again"
    )
