"""Masks in blocks: large layers cut up, coded and decoded on all cores, with a table of the blocks at the end."""

from maskstore.bank.blocks.decoder import BlockDecoder, check_blocks
from maskstore.bank.blocks.encoder import BlockEncoder
from maskstore.bank.blocks.held import HeldBlocks
from maskstore.bank.blocks.parts import Data, Parts, Unread, pieces_of
from maskstore.bank.blocks.sources import AnyMask, SourceError, gathered, layers_of
from maskstore.bank.blocks.table import read_table, tail_of

__all__ = [
    "AnyMask",
    "BlockDecoder",
    "BlockEncoder",
    "Data",
    "HeldBlocks",
    "Parts",
    "SourceError",
    "Unread",
    "check_blocks",
    "gathered",
    "layers_of",
    "pieces_of",
    "read_table",
    "tail_of",
]
