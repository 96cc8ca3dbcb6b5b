"""A mask on its way into a bank: coded before the bank is locked, or, if it is large, as it is written."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maskstore.bank import coding
from maskstore.bank.blocks import AnyMask, BlockEncoder, gathered, layers_of
from maskstore.bank.record import Record
from maskstore.bank.rows import Rows
from maskstore.codecs import BLOCKED_BITS, Codec, CodecChoice
from maskstore.errors import SpecError
from maskstore.masks import Mask, MaskSpec
from maskstore.priors import Prior


@dataclass
class NewMask:
    """What `MaskBank.put` was given."""

    name: str
    masks: AnyMask
    codec: Codec | CodecChoice
    prior: Prior
    meta: Mapping[str, Any] | None
    extras: Mapping[str, Any] | None
    _coded: Record | None = field(default=None, init=False)

    def code(self, spec: MaskSpec) -> None:
        """Code what needs neither another mask nor much memory; SpecError for a mask of another spec."""
        if isinstance(self.masks, Mask) and self.masks.spec is not spec and self.masks.spec != spec:
            raise SpecError(f"mask {self.name!r}: expected the bank's spec {spec!r}, found {self.masks.spec!r}")
        if spec.bits >= BLOCKED_BITS:
            return
        self.masks = mask = gathered(self.masks, spec)
        if not self.prior.needs[-1]:
            self._coded = coding.encode_record(
                self.name, mask, self.codec, self.prior, meta=self.meta, extras=self.extras
            )

    def store(self, link: sqlite3.Connection, rows: Rows, spec: MaskSpec, *, overwrite: bool) -> None:
        """Write it, within a transaction; a large mask is coded meanwhile, and never is in memory as a whole."""
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
