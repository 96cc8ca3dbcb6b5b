"""`encode_mask`, `decode_mask`, `decode_signed_mask`: a mask as bytes, as in a row of a bank, without the bank."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from maskstore.bank import Record, decode_signed, encode_data, encode_extras, encode_signed, prior_of
from maskstore.bank import decode_mask as decode_record
from maskstore.codecs import AnyCodec
from maskstore.errors import CodecError, CorruptError, FormatVersionError, SpecError
from maskstore.files import Cursor, byte_limit, parse_object, write_leb128
from maskstore.masks import Mask, MaskSpec, SignedMask
from maskstore.messages.expected import Expected
from maskstore.priors import Backbone, Prior, Uniform, checked_backbone, prior_to_json

_MAGIC = b"MSKM"
_VERSION = 1
_DIGEST_BYTES = 8


def encode_mask(
    mask: Mask | SignedMask | Mapping[str, Any], *, prior: Prior | None = None, codec: AnyCodec = "auto"
) -> bytes:
    """A mask as bytes that need no bank: versioned, with a checksum, `docs/format-bytes.md`.

    Args:
        mask: A `Mask`, a `SignedMask`, or arrays of 0 and 1 by layer name.
        prior: What the receiver knows as well: `Uniform()`, `SeededScores(...)`, `KeptWeights(...)` or
            `Expected(...)`. Nothing, if not given. Of a signed mask it is also the prior of the signs, unless it is
            `Expected`.
        codec: A codec, or its name, as in `MaskBank.put`.

    Returns:
        The message: some 60 bytes, 6 or more for each layer, and the coded bits.

    Raises:
        SpecError: The mask is none, or `Expected` is of other layers.
        MaskValueError: A value is not 0 or 1.
        CodecError: The prior refers to masks of a bank.
        UnknownCodecError: There is no codec of that name.

    Examples:
        >>> import numpy as np
        >>> from maskstore import MaskSpec, decode_mask, encode_mask
        >>> masks = {"fc1": np.arange(235200).reshape(300, 784) % 20 == 0}
        >>> data = encode_mask(masks)
        >>> len(data) < 0.3 * 235200 / 8, decode_mask(data, MaskSpec.of(masks)).ones
        (True, 11760)
    """
    known = prior if prior is not None else Uniform()
    if not isinstance(known, Prior) or known.needs[-1]:
        raise CodecError(
            f"prior of a message: expected Uniform(), SeededScores(...), KeptWeights(...) or Expected(...), "
            f"found {known!r:.60}"
        )
    extras = b""
    if isinstance(mask, SignedMask):
        extras = encode_extras(encode_signed(mask, Uniform() if isinstance(known, Expected) else known, codec))
        mask = mask.mask
    elif not isinstance(mask, Mask):
        mask = Mask.from_dense(mask)
    _check_spec(known, mask.spec)
    how, data = encode_data(mask, codec, known)
    about = _digested(known) if isinstance(known, Expected) else prior_to_json(known)
    texts = [how.encode(), about.encode(), extras]
    head = _MAGIC + bytes([_VERSION]) + _fingerprint(mask.spec)
    whole = b"".join([head, *(write_leb128(len(text)) + text for text in texts), data[:]])
    return whole + _checksum(whole)


def decode_mask(
    data: bytes,
    spec: MaskSpec,
    *,
    prior: Expected | None = None,
    limit: int | None = None,
    backbone: Backbone | None = None,
) -> Mask:
    """The mask of a message; of a signed one, which weights it keeps.

    The bytes may be anybody's: what they do not hold as `encode_mask` wrote it is an error, and decoding takes memory
    for the bits of `spec`, within `limit`.

    Args:
        data: The message.
        spec: The layers of the mask.
        prior: What the sender was given, if that is `Expected`. Other priors are in the message.
        limit: The most bytes that may be decoded, as in `MaskBank.open`.
        backbone: The network's weights, for a mask that was coded under `KeptWeights`.

    Raises:
        BackboneError: The weights are not those it was coded against, or not given.
        CorruptError: The bytes are no message, or are not as they were written.
        FormatVersionError: A newer version wrote them.
        SpecError: The message is of other layers.
        CodecError: It was coded under `Expected`, and `prior` is not given or expects other probabilities.
        LimitError: Decoding would take too much.

    Examples:
        >>> from maskstore import MaskSpec, decode_mask, encode_mask
        >>> decode_mask(encode_mask({"fc1": [[1, 0], [1, 1]]}), MaskSpec({"fc1": (2, 2)}))
        Mask(1 layers, 4 bits, density 0.750)
    """
    record, known = _read(data, spec, prior, limit, checked_backbone(backbone))
    return decode_record(record, spec, prior=known)


def decode_signed_mask(
    data: bytes,
    spec: MaskSpec,
    *,
    prior: Expected | None = None,
    limit: int | None = None,
    backbone: Backbone | None = None,
) -> SignedMask:
    """The signed mask of a message, with its signs and scales; everything else is as in `decode_mask`.

    Args:
        data: The message.
        spec: The layers of the mask.
        prior: As in `decode_mask`.
        limit: As in `decode_mask`.
        backbone: As in `decode_mask`.

    Raises:
        TaskNotFoundError: The mask has no signs. What else is raised is as in `decode_mask`.

    Examples:
        >>> from maskstore import SignedMask, decode_signed_mask, encode_mask
        >>> signed = SignedMask.from_dense({"fc1": [[1, 0], [-1, 1]]}, scales={"fc1": 0.5})
        >>> decode_signed_mask(encode_mask(signed), signed.spec) == signed
        True
    """
    record, known = _read(data, spec, prior, limit, checked_backbone(backbone))
    return decode_signed(record, spec, prior=known)


def _read(
    data: bytes, spec: MaskSpec, prior: Prior | None, limit: int | None, backbone: Backbone | None
) -> tuple[Record, Prior]:
    """The row that a message stands for, its checksum checked, and its prior."""
    if not isinstance(spec, MaskSpec):
        raise SpecError(f"message: expected a spec such as MaskSpec.of(masks), found {type(spec).__name__}")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise SpecError(f"message: expected bytes, found {type(data).__name__}")
    if prior is not None and not isinstance(prior, Prior):
        raise CodecError(f"prior of a message: expected one such as Expected(...), found {prior!r:.60}")
    whole, limit = bytes(data), byte_limit(limit)
    if whole[:4] != _MAGIC or len(whole) < len(_MAGIC) + 1 + 2 * _DIGEST_BYTES:
        raise CorruptError(
            f"message: expected bytes that begin with MSKM, found {len(whole)} that begin with {whole[:4]!r}"
        )
    if whole[4] != _VERSION:
        raise FormatVersionError(f"message: expected version {_VERSION}, found {whole[4]}")
    if _checksum(whole[:-_DIGEST_BYTES]) != whole[-_DIGEST_BYTES:]:
        raise CorruptError("message: expected the checksum that it was sent with, found other bytes")
    cursor = Cursor(whole[:-_DIGEST_BYTES], "message")
    cursor.take(len(_MAGIC) + 1)
    if cursor.take(_DIGEST_BYTES) != _fingerprint(spec):
        raise SpecError(f"message: expected a mask of {spec!r}, found one of other layers")
    codec, text = (cursor.text(cursor.leb128()) for _ in range(2))
    extras = cursor.take(cursor.leb128())
    record = Record(
        0, "of a message", "{}", codec, text,
        extras=extras, data=cursor.take(cursor.left), limit=limit, backbone=backbone,
    )  # fmt: skip
    return record, _prior(text, spec, prior).over(backbone, "message")


def _digested(prior: Expected) -> str:
    return json.dumps({"id": prior.id, "digest": prior.digest}, separators=(",", ":"))


def _prior(text: str, spec: MaskSpec, given: Prior | None) -> Prior:
    """The prior of a message; CodecError where it was coded under probabilities that were not given."""
    config = parse_object(text)
    if config.get("id") != Expected.id:
        known = prior_of(text)
        if known.needs[-1]:
            raise CorruptError(f"message: expected a prior that needs no other masks, found {known.id}")
        return known
    if not isinstance(given, Expected):
        raise CodecError(f"message: expected `prior=Expected(...)`, under which it was coded, found {given!r:.60}")
    _check_spec(given, spec)
    if config.get("digest") != given.digest:
        raise CodecError(f"message: expected the probabilities under which it was coded, of digest "
                         f"{config.get('digest')!r:.40}, found those of {given.digest!r}")  # fmt: skip
    return given


def _check_spec(prior: Prior, spec: MaskSpec) -> None:
    if isinstance(prior, Expected) and prior.spec != spec:
        raise SpecError(f"expected probabilities: expected those of {spec!r}, found those of {prior.spec!r}")


def _fingerprint(spec: MaskSpec) -> bytes:
    return bytes.fromhex(spec.fingerprint)[:_DIGEST_BYTES]


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
