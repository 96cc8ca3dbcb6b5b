"""Readers of other programs' files, one file a container or layout."""

from maskstore.interop.readers.leaves import as_array, is_array, state_of, states_of
from maskstore.interop.readers.safetensors_files import index_of, load_parts, load_safetensors
from maskstore.interop.readers.torch_files import StoredArray, StoredDtype

__all__ = [
    "StoredArray",
    "StoredDtype",
    "as_array",
    "hidden_networks",
    "index_of",
    "is_array",
    "load_parts",
    "load_safetensors",
    "named_arrays",
    "nested",
    "packed_rows",
    "state_of",
    "states_of",
    "supsup",
    "torch_files",
]
