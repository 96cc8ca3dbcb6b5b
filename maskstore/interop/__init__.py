"""Masks of other programs in, masks for other programs out; shards for object stores.

Each optional dependency (torch, safetensors, fsspec, numcodecs) is imported inside the functions that need it.
"""

from maskstore.interop.backbones import read_backbone
from maskstore.interop.deltas import write_deltas
from maskstore.interop.detect import read_masks
from maskstore.interop.diff import BankDiff, TaskDiff, diff_banks, diff_tasks
from maskstore.interop.exchange import write_npz, write_safetensors
from maskstore.interop.merging import filling, merge, store
from maskstore.interop.model import LAYOUTS, ForeignMasks, ForeignTask, ReadOptions, read_shapes
from maskstore.interop.open import open_source
from maskstore.interop.shards import Retries, ShardReader, ShardSet, Written, is_url, write_shard, write_shards

__all__ = [
    "LAYOUTS",
    "BankDiff",
    "ForeignMasks",
    "ForeignTask",
    "ReadOptions",
    "Retries",
    "ShardReader",
    "ShardSet",
    "TaskDiff",
    "Written",
    "diff_banks",
    "diff_tasks",
    "filling",
    "is_url",
    "merge",
    "open_source",
    "read_backbone",
    "read_masks",
    "read_shapes",
    "readers",
    "store",
    "write_deltas",
    "write_npz",
    "write_safetensors",
    "write_shard",
    "write_shards",
]
