"""The signs of a mask, coded at the places that it keeps, and the scales beside them: two extra arrays of a record.

`docs/format.md`, "Signs and scales", is normative. A program that does not know them reads the mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.bank.coding import decode_mask, encode_data, prior_of
from maskstore.bank.extras import decode_extras, extras_sizes
from maskstore.bank.record import SCALES, SIGNS, Record
from maskstore.codecs import AnyCodec
from maskstore.errors import CodecError, CorruptError, MaskValueError, SpecError, TaskNotFoundError
from maskstore.files import Cursor, write_leb128
from maskstore.masks import LayerSpec, Mask, MaskSpec, SignedMask, bits, kept_bits, popcount, rows_of, spread_bits
from maskstore.priors import Contexts, Prior, Uniform, prior_to_json

_VERSION = 1


class Kept(Prior):
    """What a prior says of the weights that a mask keeps; no bank names it."""

    id = "kept"

    def __init__(self, prior: Prior, mask: Mask) -> None:
        self._prior, self._mask = prior, mask
        self._lock = Lock()
        self._last: tuple[int, Contexts] | None = None

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """The contexts of the bits of layer `index`, which are those that the mask keeps of its own layer."""
        with self._lock:  # blocks of one layer come one after the other, on several cores
            if self._last is None or self._last[0] != index:
                self._last = index, self._of_layer(index)
            found = self._last[1]
        if part is None:
            return found
        return replace(found, ids=found.ids[part.flat], places=None)

    def _of_layer(self, index: int) -> Contexts:
        found = self._prior.contexts(self._mask.spec, index)
        layer = self._mask.spec.layers[index]
        words = self._mask.words[layer.packed]
        if found.levels * found.classes == 1:  # all alike
            return replace(found, ids=found.ids[: popcount(words)], places=None)
        return replace(found, ids=found.ids[bits.unpack(words, layer.size)], places=None)


def kept_spec(mask: Mask) -> MaskSpec:
    """The spec of the signs: as many bits for each layer as the mask keeps of it."""
    return MaskSpec({layer.name: (popcount(mask.words[layer.packed]),) for layer in mask.spec})


def encode_signed(
    signed: SignedMask, prior: Prior | None, codec: AnyCodec, extras: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The extra arrays of a signed mask: the caller's own, its signs, and its scales if it has any.

    `prior`: what is known about the signs; other masks that it refers to do not count.
    """
    if not isinstance(signed, SignedMask):
        raise SpecError(f"signed mask: expected a SignedMask, found {type(signed).__name__}")
    known = prior if prior is not None else Uniform()
    if not isinstance(known, Prior):
        raise CodecError(f"prior: expected one such as Uniform(), found {known!r:.60}")
    known = known.alone
    if extras is not None and not hasattr(extras, "items"):
        raise MaskValueError(f"extras: expected a dict of name to array, found {type(extras).__name__}")
    if taken := [name for name in extras or {} if name in (SIGNS, SCALES)]:
        raise MaskValueError(
            f"extras {taken[0]!r}: expected a name that signed masks do not use, found one that they do"
        )
    spec, mask = kept_spec(signed.mask), signed.mask
    words = np.zeros(spec.words, dtype=np.uint64)
    for kept, layer in zip(spec, mask.spec, strict=True):
        negative = signed.negative.words[layer.packed]
        words[kept.packed] = kept_bits(negative, mask.words[layer.packed])
    words.flags.writeable = False
    how, data = encode_data(Mask(spec, words), codec, Kept(known, mask))
    texts = [text.encode() for text in (how, prior_to_json(known))]
    head = b"".join(write_leb128(len(text)) + text for text in texts)
    found = {**(extras or {}), SIGNS: np.frombuffer(bytes([_VERSION]) + head + data[:], dtype=np.uint8)}
    if signed.scales:
        values = np.concatenate([signed.scales[layer.name].reshape(-1) for layer in mask.spec])
        found[SCALES] = values.reshape(1, -1) if next(iter(signed.scales.values())).ndim else values
    return found


def decode_signed(record: Record, spec: MaskSpec, *, prior: Prior | None = None) -> SignedMask:
    """The signed mask of a record; TaskNotFoundError for a mask without signs, CorruptError for what is none.

    `prior`: as in `decode_mask`, of the mask.
    """
    extras = decode_extras(record.extras, record.name, record.limit)
    if SIGNS not in extras:
        raise TaskNotFoundError(f"{record.what}: expected a signed mask, found one without signs")
    mask = decode_mask(record, spec, prior=prior)
    try:
        negative = _decode_signs(extras[SIGNS], mask, record)
        return SignedMask(mask, negative, _scales(extras.get(SCALES), spec))
    except (CodecError, MaskValueError) as error:
        raise CorruptError(f"{record.what}, signs: {error}") from None


def signed_sizes(record: Record) -> tuple[int, int]:
    """Bytes of a record's coded signs, and of its scales; nothing is decoded."""
    sizes = extras_sizes(record.extras, record.name)
    return sizes.get(SIGNS, 0), sizes.get(SCALES, 0)


def _decode_signs(blob: NDArray[Any], mask: Mask, record: Record) -> Mask:
    what = f"{record.what}, signs"
    if blob.dtype != np.uint8 or blob.ndim != 1:
        raise CorruptError(f"{what}: expected bytes, found {blob.dtype} of shape {blob.shape}")
    cursor = Cursor(blob.tobytes(), what)
    if (version := cursor.take(1)[0]) != _VERSION:
        raise CorruptError(f"{what}: expected version {_VERSION}, found {version}")
    codec, prior = (cursor.text(cursor.leb128()) for _ in range(2))
    known = prior_of(prior).over(record.backbone, what)
    if known.needs[-1]:
        raise CorruptError(f"{what}: expected a prior that needs no other masks, found {known.id}")
    spec = kept_spec(mask)
    row = Record(
        record.id, f"{record.name}, signs", "{}", codec, prior, data=cursor.take(cursor.left), limit=record.limit
    )
    found = decode_mask(row, spec, prior=Kept(known, mask))
    words = np.zeros(mask.spec.words, dtype=np.uint64)
    for kept, layer in zip(spec, mask.spec, strict=True):
        words[layer.packed] = spread_bits(found.words[kept.packed], mask.words[layer.packed])
    words.flags.writeable = False
    return Mask(mask.spec, words)


def _scales(array: NDArray[Any] | None, spec: MaskSpec) -> dict[str, NDArray[Any]] | None:
    if array is None:
        return None
    shapes = (len(spec),), (1, sum(map(rows_of, spec)))
    if array.dtype != np.float32 or array.shape not in shapes:
        raise CorruptError(f"scales: expected float32 of shape {shapes[0]} for layers or {shapes[1]} for rows, "
                           f"found {array.dtype} of shape {array.shape}")  # fmt: skip
    if array.ndim == 1:
        return {layer.name: array[i] for i, layer in enumerate(spec)}
    found, start = {}, 0
    for layer in spec:
        found[layer.name] = array[0, start : start + rows_of(layer)]
        start += rows_of(layer)
    return found


def check_signs(extras: Mapping[str, Any], mask: Mask, name: str) -> None:
    """MaskValueError for extra arrays with the signs of another mask, which nobody could read beside this one."""
    scales = extras.get(SCALES)
    try:
        negative = _decode_signs(bits.as_numpy(extras[SIGNS], SIGNS), mask, Record(0, name, "{}", "", ""))
        SignedMask(mask, negative, _scales(None if scales is None else bits.as_numpy(scales, SCALES), mask.spec))
    except (CodecError, CorruptError, MaskValueError) as error:
        raise MaskValueError(f"extras {SIGNS!r}: expected the signs of this mask, found others (`put_signed` stores a "
                             f"mask with its signs): {error}") from None  # fmt: skip


def check_signed(record: Record, spec: MaskSpec) -> None:
    """CorruptError unless the signs of a record, if it has any, can be read."""
    if signed_sizes(record)[0]:
        decode_signed(record, spec)
