"""The bank file: masks, coded, in one crash-safe SQLite file."""

from maskstore.bank.accounting import Account, LayerAccount, account
from maskstore.bank.bank import MaskBank, MaskInfo, decoded_ahead
from maskstore.bank.compaction import compact
from maskstore.bank.record import MAX_BLOB_BYTES, Record
from maskstore.bank.source import MaskSource, open_source
from maskstore.bank.sqlite import clear_side_files, side_files

__all__ = [
    "MAX_BLOB_BYTES",
    "Account",
    "LayerAccount",
    "MaskBank",
    "MaskInfo",
    "MaskSource",
    "Record",
    "account",
    "clear_side_files",
    "compact",
    "decoded_ahead",
    "open_source",
    "record",
    "side_files",
]
