"""The bank file: masks, coded, in one crash-safe SQLite file."""

from maskstore.bank.accounting import Account, LayerAccount, account
from maskstore.bank.bank import MaskBank
from maskstore.bank.blocks import Unread, pieces_of
from maskstore.bank.coding import (
    check_own_sum,
    check_sum,
    decode_mask,
    encode_data,
    in_blocks,
    prior_of,
    sealed,
    standalone,
)
from maskstore.bank.compaction import Compaction, compact
from maskstore.bank.extras import Rounded, decode_extras, encode_extras
from maskstore.bank.maintenance import Maintenance
from maskstore.bank.record import MAX_BLOB_BYTES, MaskInfo, Record, info_of
from maskstore.bank.signs import decode_signed, encode_signed
from maskstore.bank.source import MaskSource, check_source, decode_layers
from maskstore.bank.sqlite import clear_side_files, side_files

__all__ = [
    "MAX_BLOB_BYTES",
    "Account",
    "Compaction",
    "LayerAccount",
    "Maintenance",
    "MaskBank",
    "MaskInfo",
    "MaskSource",
    "Record",
    "Rounded",
    "Unread",
    "account",
    "check_own_sum",
    "check_source",
    "check_sum",
    "clear_side_files",
    "compact",
    "decode_extras",
    "decode_layers",
    "decode_mask",
    "decode_signed",
    "encode_data",
    "encode_extras",
    "encode_signed",
    "in_blocks",
    "info_of",
    "pieces_of",
    "prior_of",
    "sealed",
    "side_files",
    "standalone",
]
