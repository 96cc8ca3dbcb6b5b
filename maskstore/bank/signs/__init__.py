"""The signs of a mask, coded only where it keeps a weight, and the scales beside them."""

from maskstore.bank.signs.planes import (
    PutOptions,
    check_signed,
    check_signs,
    decode_signed,
    encode_signed,
    signed_sizes,
)

__all__ = ["PutOptions", "check_signed", "check_signs", "decode_signed", "encode_signed", "signed_sizes"]
