"""Files in general: replaced whole or not at all, strict JSON, safe .npz, names, varints. Knows no mask."""

from maskstore.files.atomic import new_file_mode, publish, replacing, sync_folder
from maskstore.files.json_files import read_json, typed, write_json
from maskstore.files.names import check_name, is_name
from maskstore.files.npz import read_npz, write_npz
from maskstore.files.os_errors import named_os_errors
from maskstore.files.strict_json import encode_meta, parse_json, parse_object

__all__ = [
    "check_name",
    "encode_meta",
    "is_name",
    "named_os_errors",
    "new_file_mode",
    "npz",
    "parse_json",
    "parse_object",
    "publish",
    "read_json",
    "read_npz",
    "replacing",
    "sync_folder",
    "typed",
    "write_json",
    "write_npz",
]
