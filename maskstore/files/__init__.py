"""Files in general: written whole or not at all, names, integers and JSON in them, .npz read safely. Knows no mask."""

from maskstore.files.atomic import replacing
from maskstore.files.connections import (
    Link,
    connect_still,
    copy_with_log,
    first_bytes,
    is_database,
    no_fork,
    still_stamp,
)
from maskstore.files.json_files import read_json, typed, write_json
from maskstore.files.names import check_known, nearest
from maskstore.files.npz import read_npz, write_npz
from maskstore.files.os_errors import lock_fault, named_os_error, named_os_errors
from maskstore.files.values import Cursor, check_name, encode_meta, is_name, parse_json, parse_object, write_leb128

__all__ = [
    "Cursor",
    "Link",
    "check_known",
    "check_name",
    "connect_still",
    "copy_with_log",
    "encode_meta",
    "first_bytes",
    "is_database",
    "is_name",
    "lock_fault",
    "named_os_error",
    "named_os_errors",
    "nearest",
    "no_fork",
    "npz",
    "parse_json",
    "parse_object",
    "read_json",
    "read_npz",
    "replacing",
    "still_stamp",
    "typed",
    "write_json",
    "write_leb128",
    "write_npz",
]
