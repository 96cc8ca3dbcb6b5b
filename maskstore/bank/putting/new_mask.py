"""A mask on its way into a bank: coded before the bank is locked, or, if it is large, as it is written."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from maskstore.bank import coding
from maskstore.bank.blocks import AnyMask, BlockEncoder, gathered, layers_of
from maskstore.bank.putting.near import NearMasks
from maskstore.bank.record import SIGNS, Record
from maskstore.bank.relations import cost_of
from maskstore.bank.rows import Rows
from maskstore.bank.signs import check_signs
from maskstore.codecs import BLOCKED_BITS, AnyCodec, get_codec
from maskstore.errors import BackboneError, CodecError, SpecError
from maskstore.masks import Mask, MaskSpec
from maskstore.priors import Backbone, KeptWeights, Prior, Reference, SeededScores, Uniform

_LIKE_BITS = 1 << 28  # larger masks are not compared with others: they would have to be in memory coded and not


class NewMask:
    """What `MaskBank.put` was given, and says about it.

    Raises:
        CodecError: The prior is none.
        UnknownCodecError: There is no codec of that name.
    """

    def __init__(
        self,
        name: str,
        masks: AnyMask,
        codec: AnyCodec,
        prior: Prior | None,
        meta: Mapping[str, Any] | None,
        extras: Mapping[str, Any] | None,
        near: NearMasks | None = None,
    ) -> None:
        """`near`: masks of the bank that it may be coded against, if that takes fewer bytes."""
        self.name, self.masks, self.meta, self.extras = name, masks, meta, extras
        self.prior, self.codec = prior if prior is not None else Uniform(), get_codec(codec)
        if not isinstance(self.prior, Prior):
            raise CodecError(f"prior: expected one such as Uniform(), found {self.prior!r:.60}")
        self._coded: Record | None = None
        self._near = near

    def over(self, backbone: Backbone | None) -> Backbone | None:
        """Take the bank's weights, where the prior has a fingerprint alone; the weights of the bank from now on.

        BackboneError for a prior over other weights than those of the bank.
        """
        what = f"mask {self.name!r:.80}"
        self.prior = self.prior.over(backbone, what)
        known = self.prior.known
        if backbone is not None and known is not None and known.fingerprint != backbone.fingerprint:
            raise BackboneError(
                f"{what}: expected the weights that the bank is open with, of fingerprint {backbone.fingerprint}, "
                f"found {known.fingerprint}"
            )
        return backbone or known

    def check_weights(self, link: sqlite3.Connection, rows: Rows) -> None:
        """BackboneError if another mask of the bank was coded against other weights: nobody could read both."""
        known = self.prior.known
        if known is None or rows.agreed == known.fingerprint:
            return
        name, found = rows.coded_against(link, but=self.name)
        if found not in ("", known.fingerprint):
            raise BackboneError(
                f"mask {self.name!r:.80}: expected the weights of the bank's mask {name!r:.80}, "
                f"of fingerprint {found}, found {known.fingerprint}"
            )
        rows.agreed = found

    def code(self, spec: MaskSpec) -> None:
        """Code what needs neither another mask nor much memory; SpecError for a mask of another spec."""
        if isinstance(self.masks, Mask) and self.masks.spec is not spec and self.masks.spec != spec:
            raise SpecError(f"mask {self.name!r}: expected the bank's spec {spec!r}, found {self.masks.spec!r}")
        if spec.bits >= BLOCKED_BITS:
            self._check_signs()
            return
        given = self.masks
        self.masks = mask = Mask.from_dense(given, spec) if isinstance(given, Mapping) else gathered(given, spec)
        self._check_signs()
        if not self.prior.needs[-1]:
            self._coded = coding.encode_record(
                self.name, mask, self.codec, self.prior, meta=self.meta, extras=self.extras
            )

    def _check_signs(self) -> None:
        """MaskValueError where the extras have the signs of another mask. Of layers one by one it cannot be told."""
        if isinstance(self.extras, Mapping) and SIGNS in self.extras and isinstance(self.masks, Mask):
            check_signs(self.extras, self.masks, self.name)

    def store(self, link: sqlite3.Connection, rows: Rows, spec: MaskSpec, *, overwrite: bool) -> None:
        """Write it, within a transaction; a large mask is coded meanwhile, and never is in memory as a whole."""
        if (
            self._near is not None
            and spec.bits <= _LIKE_BITS
            and isinstance(self.prior, Uniform | SeededScores | KeptWeights)
        ):
            rows.insert(link, self._shorter(link, rows, spec, self._near), overwrite=overwrite)
            return
        if self._coded is not None:
            rows.insert(link, self._coded, overwrite=overwrite)
            return
        bases = rows.resolve(link, self.prior) if self.prior.needs[-1] else []
        beside: dict[str, Any] = {"meta": self.meta, "extras": self.extras, "bases": bases}
        if spec.bits < BLOCKED_BITS:
            mask = gathered(self.masks, spec)
            new = coding.encode_record(self.name, mask, self.codec, self.prior, **beside)
            rows.insert(link, new, overwrite=overwrite)
            return
        others = coding.base_masks(bases, spec)
        encoder = BlockEncoder(spec, layers_of(self.masks, spec), self.codec, self.prior, others)
        rows.insert(link, coding.described(self.name, self.prior, **beside), overwrite=overwrite, encoder=encoder)

    def _shorter(self, link: sqlite3.Connection, rows: Rows, spec: MaskSpec, near: NearMasks) -> Record:
        """The mask as coded alone, or against one that it is like, whichever takes fewer bytes."""
        mask, beside = gathered(self.masks, spec), dict[str, Any](meta=self.meta, extras=self.extras)
        alone = self._coded or coding.encode_record(self.name, mask, self.codec, self.prior, **beside)
        like = near.like(mask, name=self.name)
        row = rows.named(link, like) if like else None
        if row is not None and row.bases is None:
            prior = Reference(like, given=self.prior)
            bases = rows.resolve(link, prior)
            against = coding.encode_record(self.name, mask, self.codec, prior, bases=bases, **beside)
            if cost_of(against) < cost_of(alone):
                return against
        near.add(self.name, mask)
        return alone
