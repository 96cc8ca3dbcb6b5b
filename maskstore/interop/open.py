"""`open_source`: whatever holds our masks, opened for reading."""

import os

from maskstore.bank import MaskBank, MaskSource
from maskstore.errors import BankNotFoundError
from maskstore.files import first_bytes, path_of, text_of
from maskstore.interop.shards import MAGIC, NAME, ShardReader, ShardSet, is_url
from maskstore.priors import Backbone


def open_source(
    location: str | os.PathLike[str],
    *,
    limit: int | None = None,
    immutable: bool = False,
    backbone: Backbone | None = None,
) -> MaskSource:
    """Open a bank, a shard or a shard set for reading.

    Args:
        location: The path of a bank, shard or shard set, or the URL of a shard or shard set. A URL that ends in .shard,
            or has `::` in it, is a shard. Any other is a shard set if it has a manifest. `ShardSet` takes more options.
        limit: The most bytes that one call may decode, as in `MaskBank.open`.
        immutable: Read a bank as it lies there, as in `MaskBank.open`; a shard is always read so.
        backbone: The weights that masks were coded against, if some have the prior `KeptWeights`.

    Returns:
        The open `MaskBank`, `ShardReader` or `ShardSet`. Each is a `MaskSource`: a mapping from task name to `Mask`.

    Raises:
        BankNotFoundError: There is no file.
        NotABankError: What is there is no bank, shard or shard set.
        CorruptError: The file is damaged.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec, open_source
        >>> from maskstore.interop import write_shard
        >>> masks = {"fc1": np.arange(800).reshape(20, 40) % 10 == 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", MaskSpec.of(masks)) as bank:
        ...         bank.put("task-0", masks)
        ...         write_shard(bank, f"{folder}/tasks.shard")
        ...     for name in ("tasks.bank", "tasks.shard"):
        ...         with open_source(f"{folder}/{name}") as source:
        ...             print(type(source).__name__, source["task-0"].ones)
        MaskBank 80
        ShardReader 80
    """
    text = text_of(location)
    if is_url(text):
        if not text.endswith(".shard") and "::" not in text:
            try:
                return ShardSet(text, limit=limit, backbone=backbone)
            except BankNotFoundError:  # no manifest: a shard of another name
                pass
        return ShardReader(text, limit=limit, backbone=backbone)
    path = path_of(text)
    if (path / NAME).is_file():
        return ShardSet(path, limit=limit, backbone=backbone)
    if path.is_file() and first_bytes(path, len(MAGIC)) == MAGIC:
        return ShardReader(path, limit=limit, backbone=backbone)
    return MaskBank.open(path, limit=limit, immutable=immutable, backbone=backbone)
