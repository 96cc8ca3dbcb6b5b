"""Files in general: read only if regular, written whole or not at all; names, integers, JSON, .npz. Knows no mask."""

from maskstore.files.arguments import byte_limit, path_of, seconds, text_of
from maskstore.files.atomic import replacing, taken
from maskstore.files.claims import TABLE_BYTES, check_claim, check_table
from maskstore.files.connections import (
    Link,
    connect_still,
    copy_with_log,
    first_bytes,
    is_database,
    is_known,
    no_fork,
    replaced,
    still_stamp,
)
from maskstore.files.file_systems import check_local, is_network_type, mount_of
from maskstore.files.json_files import decimal_numbers, read_json, typed, write_json
from maskstore.files.names import check_known, nearest
from maskstore.files.npz import read_npy, read_npy_file, read_npz, write_npz
from maskstore.files.os_errors import lock_fault, named_os_error, named_os_errors
from maskstore.files.regular import open_regular, read_regular
from maskstore.files.statements import bound_statements, interrupted, name_bounds
from maskstore.files.stopping import check_wanted, here, pieces, time_limit, wanted_now, wanted_until
from maskstore.files.values import (
    Cursor,
    check_name,
    distinct_names,
    encode_meta,
    is_name,
    parse_json,
    parse_object,
    same_json,
    write_leb128,
)

__all__ = [
    "TABLE_BYTES",
    "Cursor",
    "Link",
    "bound_statements",
    "byte_limit",
    "check_claim",
    "check_known",
    "check_local",
    "check_name",
    "check_table",
    "check_wanted",
    "connect_still",
    "copy_with_log",
    "decimal_numbers",
    "distinct_names",
    "encode_meta",
    "first_bytes",
    "here",
    "interrupted",
    "is_database",
    "is_known",
    "is_name",
    "is_network_type",
    "lock_fault",
    "mount_of",
    "name_bounds",
    "named_os_error",
    "named_os_errors",
    "nearest",
    "no_fork",
    "npz",
    "open_regular",
    "parse_json",
    "parse_object",
    "path_of",
    "pieces",
    "read_json",
    "read_npy",
    "read_npy_file",
    "read_npz",
    "read_regular",
    "replaced",
    "replacing",
    "same_json",
    "seconds",
    "statements",
    "still_stamp",
    "taken",
    "text_of",
    "time_limit",
    "typed",
    "wanted_now",
    "wanted_until",
    "write_json",
    "write_leb128",
    "write_npz",
]
