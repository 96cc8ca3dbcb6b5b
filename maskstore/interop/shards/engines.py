"""Which client reads and writes the store of a location."""

from importlib.util import find_spec
from typing import Any

from maskstore.errors import StoreOptionError
from maskstore.files import check_known, path_of
from maskstore.interop.shards.byte_ranges import is_url
from maskstore.interop.shards.object_store import ObjectStore
from maskstore.interop.shards.stores import FsspecStore, LocalStore, Store

ENGINES = ("auto", "obstore", "fsspec")
_OBSTORE = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "http", "https")


def open_store(location: str, options: dict[str, Any] | None = None, engine: str = "auto") -> Store:
    """The store of a folder or of a URL prefix.

    Args:
        location: A path, or a URL.
        options: The client's own options.
        engine: "obstore", "fsspec", or "auto": obstore for the stores that it knows, where it is installed.
    """
    check_known("engine", engine, ENGINES, StoreOptionError)
    scheme, found, path = location.partition("://")
    if not is_url(location) or (scheme == "file" and found):
        return LocalStore(path_of(path if found and scheme == "file" else location))
    if engine == "obstore" or (engine == "auto" and scheme in _OBSTORE and find_spec("obstore") is not None):
        return ObjectStore(location, options or {})
    return FsspecStore(location, options or {})
