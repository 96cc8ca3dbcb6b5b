"""Readers of other programs' files, one file a layout."""

from maskstore.interop.readers.torch_files import StoredArray, StoredDtype

__all__ = ["StoredArray", "StoredDtype", "named_arrays", "supsup", "torch_files"]
