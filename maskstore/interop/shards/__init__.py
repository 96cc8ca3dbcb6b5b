"""Shards: read-only files of masks for object stores, and sets of them under one manifest."""

from maskstore.interop.shards.byte_ranges import is_url
from maskstore.interop.shards.format import MAGIC
from maskstore.interop.shards.manifest import NAME
from maskstore.interop.shards.reader import ShardReader, write_shard
from maskstore.interop.shards.retries import Retries
from maskstore.interop.shards.shard_set import ShardSet
from maskstore.interop.shards.write_set import Written, write_shards

__all__ = ["MAGIC", "NAME", "Retries", "ShardReader", "ShardSet", "Written", "is_url", "write_shard", "write_shards"]
