"""Binary masks: packed in memory, entropy-coded in one bank file. Needs numpy, never torch."""

from maskstore._version import __version__
from maskstore.bank import MaskBank, MaskInfo
from maskstore.errors import MaskStoreError
from maskstore.masks import LayerSpec, Mask, MaskMatrix, MaskSpec
from maskstore.priors import Reference, RunningMean, SeededScores, Uniform

__all__ = [
    "LayerSpec",
    "Mask",
    "MaskBank",
    "MaskInfo",
    "MaskMatrix",
    "MaskSpec",
    "MaskStoreError",
    "Reference",
    "RunningMean",
    "SeededScores",
    "Uniform",
    "__version__",
]
