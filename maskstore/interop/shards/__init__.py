"""Shards: read-only files of masks for object stores."""

from maskstore.interop.shards.byte_ranges import is_url
from maskstore.interop.shards.format import MAGIC
from maskstore.interop.shards.reader import ShardReader, write_shard

__all__ = ["MAGIC", "ShardReader", "is_url", "write_shard"]
