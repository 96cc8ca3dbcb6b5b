"""`open_source`: whatever holds our masks, opened for reading."""

import os

from maskstore.bank import MaskBank, MaskSource
from maskstore.files import first_bytes, path_of, text_of
from maskstore.interop.shards import MAGIC, ShardReader, is_url


def open_source(location: str | os.PathLike[str], *, limit: int | None = None, immutable: bool = False) -> MaskSource:
    """Open a bank or a shard for reading.

    Args:
        location: The path of a bank or shard, or the URL of a shard that fsspec can open.
        limit: The most bytes that one call may decode, as in `MaskBank.open`.
        immutable: Read a bank as it lies there, as in `MaskBank.open`; a shard is always read so.

    Returns:
        The open `MaskBank` or `ShardReader`. Both are a `MaskSource`: a mapping from task name to `Mask`.

    Raises:
        BankNotFoundError: There is no file.
        NotABankError: The file is neither a bank nor a shard.
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
        return ShardReader(text, limit=limit)
    path = path_of(text)
    if path.is_file() and first_bytes(path, len(MAGIC)) == MAGIC:
        return ShardReader(path, limit=limit)
    return MaskBank.open(path, limit=limit, immutable=immutable)
