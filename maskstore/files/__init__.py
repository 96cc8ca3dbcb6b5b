"""Files in general: replaced whole or not at all, strict JSON, safe .npz, names, varints. Knows no mask."""

from maskstore.files.atomic import publish, replacing, sync_folder
from maskstore.files.leb128 import Cursor, write_leb128
from maskstore.files.names import check_known, check_name, is_name, nearest
from maskstore.files.npz import read_npz, write_npz
from maskstore.files.os_errors import named_os_error, named_os_errors
from maskstore.files.strict_json import encode_meta, parse_json, parse_object

__all__ = [
    "Cursor",
    "check_known",
    "check_name",
    "encode_meta",
    "is_name",
    "named_os_error",
    "named_os_errors",
    "nearest",
    "npz",
    "parse_json",
    "parse_object",
    "publish",
    "read_npz",
    "replacing",
    "sync_folder",
    "write_leb128",
    "write_npz",
]
