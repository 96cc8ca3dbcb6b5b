"""Binary masks: packed in memory, entropy-coded in one bank file. Needs numpy, never torch."""

from maskstore import errors
from maskstore._version import __version__
from maskstore.bank import Account, MaskBank, MaskInfo, MaskSource, Rounded, account, compact
from maskstore.errors import MaskStoreError
from maskstore.files import time_limit
from maskstore.index import open_index, write_index
from maskstore.interop import open_source
from maskstore.masks import LayerSpec, Leader, Mask, MaskMatrix, MaskSpec, SignedMask
from maskstore.messages import Expected, decode_mask, decode_signed_mask, encode_mask
from maskstore.priors import Backbone, KeptWeights, Reference, RunningMean, SeededScores, Uniform

__all__ = [
    "Account",
    "Backbone",
    "Expected",
    "KeptWeights",
    "LayerSpec",
    "Leader",
    "Mask",
    "MaskBank",
    "MaskInfo",
    "MaskMatrix",
    "MaskSource",
    "MaskSpec",
    "MaskStoreError",
    "Reference",
    "Rounded",
    "RunningMean",
    "SeededScores",
    "SignedMask",
    "Uniform",
    "__version__",
    "account",
    "compact",
    "decode_mask",
    "decode_signed_mask",
    "encode_mask",
    "errors",
    "open_index",
    "open_source",
    "time_limit",
    "write_index",
]
