"""The signs of a mask, coded only where it keeps a weight, and the scales beside them."""

from maskstore.bank.signs.planes import check_signed, check_signs, decode_signed, encode_signed, signed_sizes
from maskstore.bank.signs.putting import PutsSigned

__all__ = ["PutsSigned", "check_signed", "check_signs", "decode_signed", "encode_signed", "signed_sizes"]
