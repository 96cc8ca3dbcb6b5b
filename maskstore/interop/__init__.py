"""Masks of other programs in, masks for other programs out; shards for object stores.

Each optional dependency (torch, safetensors, fsspec, numcodecs) is imported inside the functions that need it.
"""

from maskstore.interop.detect import read_masks
from maskstore.interop.exchange import write_npz, write_safetensors
from maskstore.interop.model import ForeignMasks, ForeignTask, ReadOptions
from maskstore.interop.shards.reader import ShardReader, write_shard

__all__ = [
    "ForeignMasks",
    "ForeignTask",
    "ReadOptions",
    "ShardReader",
    "read_masks",
    "write_npz",
    "write_safetensors",
    "write_shard",
]
