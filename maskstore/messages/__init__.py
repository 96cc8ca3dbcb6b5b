"""One mask as bytes, for federated clients and message queues. `docs/format-bytes.md` is normative."""

from maskstore.messages.coding import decode_mask, decode_signed_mask, encode_mask
from maskstore.messages.expected import Expected

__all__ = ["Expected", "decode_mask", "decode_signed_mask", "encode_mask"]
