"""Extra arrays of a task: as they are, or rounded to multiples of a step and compressed."""

from maskstore.bank.extras.arrays import decode_extras, encode_extras, extras_sizes
from maskstore.bank.extras.rounded import Rounded

__all__ = ["Rounded", "decode_extras", "encode_extras", "extras_sizes"]
