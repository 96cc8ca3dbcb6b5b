"""Rows from one bank into another, without coding them anew; and banks that appear filled or not at all."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskstore.bank import Maintenance, MaskBank, MaskSource, Record, clear_side_files, sealed
from maskstore.errors import (
    ArgumentTypeError,
    BankFullError,
    BankIOError,
    SpecError,
    TaskExistsError,
    TaskNotFoundError,
)
from maskstore.files import check_local, path_of, replacing, same_json, text_of
from maskstore.interop.model import ForeignMasks
from maskstore.interop.open import open_source
from maskstore.masks import Mask, MaskSpec, SignedMask
from maskstore.priors import Backbone, checked_backbone


@contextmanager
def filling(
    path: Path, spec: MaskSpec, meta: Mapping[str, Any], backbone: Backbone | None = None
) -> Iterator[MaskBank]:
    """A bank in one transaction: the one at `path`, or a new one that takes that name when the block ends.

    After an error an existing bank is as it was, and a new one is not there.
    """
    if path.exists():
        with MaskBank.open(path, "a", backbone=backbone) as bank:
            if bank.spec != spec:
                raise SpecError(f"{path}: expected a bank of {spec!r}, found one of {bank.spec!r}")
            with bank.transaction():
                yield bank
        return
    check_local(path)  # before anything is made there
    with replacing(path, overwrite=False, remedy="") as scratch:
        clear_side_files(path)  # now, since the work may be long, and again when it is done
        made = False
        try:
            with MaskBank.create(scratch, spec, meta=meta, backbone=backbone) as bank, bank.transaction():
                yield bank
                made = True
        except (BankFullError, BankIOError) as error:
            if made:  # what closing the bank kept goes with the folder that it is in
                raise type(error)(f"{path}: expected room for a new bank, found none; nothing was kept") from error
            raise
        clear_side_files(path)  # the log of a bank that was here before would be played into this one


def store(
    masks: ForeignMasks,
    path: str | os.PathLike[str],
    *,
    codec: str | None = None,
    overwrite: bool = False,
    backbone: Backbone | None = None,
) -> int:
    """Import masks into a bank, all or none.

    Args:
        masks: What `read_masks` gave.
        path: The bank, made if there is none.
        codec: The codec of all masks; if not given, the one that a task names, or "auto".
        overwrite: Replace masks of the same name.
        backbone: The network's weights, for masks whose prior is `KeptWeights`.

    Returns:
        The number of masks.

    Raises:
        BackboneError: Such weights are missing, or others.
        SpecError: The bank has other layers.
        TaskExistsError: Lists all names that are taken, unless `overwrite`, and names that come twice.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank
        >>> from maskstore.interop import ReadOptions, read_masks, store
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/pruned.npz", fc1=np.eye(4, dtype=bool), fc2=np.ones((2, 4), dtype=bool))
        ...     count = store(read_masks(f"{folder}/pruned.npz", ReadOptions(name="task-0")), f"{folder}/tasks.bank")
        ...     with MaskBank.open(f"{folder}/tasks.bank") as bank:
        ...         print(count, bank["task-0"])
        1 Mask(2 layers, 24 bits, density 0.500)
    """
    path = path_of(path)
    if not isinstance(masks, ForeignMasks):
        raise ArgumentTypeError(f"masks: expected what `read_masks` gives, found {type(masks).__name__}")
    names = [task.name for task in masks.tasks]
    taken, spec = _repeated(names), masks.spec
    if path.exists():
        with MaskBank.open(path) as bank:
            taken += [name for name in names if name in bank and not overwrite]
            if dict(bank.spec.shapes) == dict(spec.shapes):
                spec = bank.spec  # the same layers; a file may hold them in another order
    _refuse(taken)
    meta = {"imported": {"layout": masks.layout, **masks.meta}} if masks.layout != "maskstore" else masks.meta
    with filling(path, spec, meta, checked_backbone(backbone)) as bank:
        for task in masks.tasks:
            options: dict[str, Any] = {
                "meta": task.meta,
                "extras": task.extras,
                "codec": codec or task.codec or "auto",
                "prior": task.prior,
                "overwrite": overwrite,
            }
            if task.signed is not None:
                bank.put_signed(task.name, _ordered(task.signed, spec), **options)
            else:
                mask = task.mask if spec == masks.spec else Mask.from_dense(task.mask.dense(), spec)
                bank.put(task.name, mask, **options)
    return len(names)


def _ordered(signed: SignedMask, spec: MaskSpec) -> SignedMask:
    """The same with the layers in the order of a bank's."""
    return signed if spec == signed.spec else SignedMask.from_dense(signed.dense(), spec, scales=signed.scales)


def merge(
    sources: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    rename: Mapping[str, str] | None = None,
    prefix: str = "",
    sort: bool = False,
    immutable: bool = False,
) -> tuple[int, list[str]]:
    """Copy the masks of banks and shards of one spec into a bank, without coding them anew; all or nothing.

    Args:
        sources: Paths of banks, paths or URLs of shards.
        path: The bank, made if there is none.
        overwrite: Replace masks of the same name; later sources win.
        rename: Old task names, and the new ones.
        prefix: Goes before all other names. "{source}" in it stands for the source's file name without its ending.
        sort: Store the masks in the order of their new names, numbers in them by value ("task-2" before "task-10"), and
            not source after source.
        immutable: Read the sources as they lie there, as in `MaskBank.open`, since nobody writes to them.

    Returns:
        The number of masks, and the keys of the sources' metadata on which they disagree. A new bank does not take
        these over.

    Raises:
        SpecError: The sources' layers differ, or there is no source.
        TaskExistsError: Lists all names that are taken, unless `overwrite`.
        TaskNotFoundError: No source has a name that was to be renamed.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import merge
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for run in ("a", "b"):
        ...         with MaskBank.create(f"{folder}/{run}.bank", MaskSpec.of(masks)) as bank:
        ...             bank.put("task-0", masks)
        ...     merged = f"{folder}/all.bank"
        ...     count, _ = merge([f"{folder}/a.bank", f"{folder}/b.bank"], merged, prefix="{source}/")
        ...     with MaskBank.open(merged) as bank:
        ...         print(count, list(bank))
        2 ['a/task-0', 'b/task-0']
    """
    if isinstance(sources, (str, os.PathLike)):
        raise SpecError(f"merge: expected a list of sources, found one path, {str(sources)!r:.80}")
    if not isinstance(sources, Iterable):
        raise ArgumentTypeError(f"sources: expected a list of paths, found {type(sources).__name__}")
    path, sources = path_of(path), [text_of(source, "source") for source in sources]
    if not sources:
        raise SpecError("merge: expected at least one source, found none")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_source(source, immutable=immutable)) for source in sources]
        spec = opened[0].spec
        for location, source in zip(sources, opened, strict=True):
            if source.spec != spec:
                raise SpecError(f"{location}: expected the layers of {sources[0]}, {spec!r}, found {source.spec!r}")
        renamed = [_renaming(list(source), location, rename or {}, prefix)
                   for location, source in zip(sources, opened, strict=True)]  # fmt: skip
        unused = set(rename or {}) - {name for source in opened for name in source}
        if unused:
            raise TaskNotFoundError(f"rename: expected names in the sources, found none called {sorted(unused)[:8]}")
        if not overwrite:
            names = [name for names in renamed for name in names.values()]
            taken = _repeated(names)
            if path.exists():
                with MaskBank.open(path) as bank:
                    taken += [name for name in names if name in bank]
            _refuse(taken)
        meta, disputed = _common([source.meta for source in opened])
        stored = set()
        with filling(path, spec, meta) as bank:
            keeper = Maintenance(bank)
            for row, names_of in _in_order(opened, renamed) if sort else _as_they_come(opened, renamed):
                keeper.put_record(_renamed(row, names_of), overwrite=overwrite)
                stored.add(names_of[row.name])
    return len(stored), disputed


Rows = Iterator[tuple[Record, Mapping[str, str]]]


def _as_they_come(sources: Sequence[MaskSource], renamed: Sequence[Mapping[str, str]]) -> Rows:
    """All rows, source after source, with the new names of their source."""
    for source, names in zip(sources, renamed, strict=True):
        for row in source.records():
            if row.name in names:  # a row that another program put meanwhile waits for the next merge
                yield row, names


def _in_order(sources: Sequence[MaskSource], renamed: Sequence[Mapping[str, str]]) -> Rows:
    """All rows by their new names; of equal names the later source comes last."""
    wanted = [(_by_value(new), number, old) for number, names in enumerate(renamed) for old, new in names.items()]
    for _, number, old in sorted(wanted):
        yield sources[number].record(old), renamed[number]


def _by_value(name: str) -> list[tuple[int, int, str]]:
    """What names are sorted by: their runs of digits by value, the rest by letters."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(each[:400]), each) if each[0] in "0123456789" else (1, 0, each) for each in pieces]


def _renaming(
    names: list[str], location: str | os.PathLike[str], rename: Mapping[str, str], prefix: str
) -> dict[str, str]:
    start = prefix.replace("{source}", Path(location).stem)
    return {name: rename.get(name, start + name) for name in names}


def _renamed(row: Record, names: Mapping[str, str]) -> Record:
    """A row under its new name, and the masks it needs under theirs, by which they are found in the new bank."""
    bases = tuple(replace(base, record=_renamed(base.record, names)) for base in row.bases)
    name = names.get(row.name, "")
    return row if (name, bases) == (row.name, row.bases) else sealed(replace(row, name=name, bases=bases), row.id)


def _common(metas: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    keys = list(dict.fromkeys(key for meta in metas for key in meta))
    agreed = {
        key: metas[0][key] for key in keys if all(key in meta and same_json(meta[key], metas[0][key]) for meta in metas)
    }
    return agreed, [key for key in keys if key not in agreed]


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _refuse(taken: Sequence[str]) -> None:
    if taken:
        distinct = list(dict.fromkeys(taken))
        listed = ", ".join(map(repr, distinct[:20])) + (", ..." if len(distinct) > 20 else "")
        raise TaskExistsError(f"{len(distinct)} task names: expected new ones, found them taken: {listed}")
