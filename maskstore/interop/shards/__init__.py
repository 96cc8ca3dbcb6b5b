"""Shards: read-only files of masks for object stores."""
