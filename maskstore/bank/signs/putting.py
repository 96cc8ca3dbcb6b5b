"""`put_signed`: a signed mask is a mask with two extra arrays."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from maskstore.bank.blocks import AnyMask
from maskstore.bank.signs.planes import encode_signed
from maskstore.codecs import AnyCodec
from maskstore.masks import SignedMask
from maskstore.priors import Prior


class PutOptions(TypedDict, total=False):
    """What `MaskBank.put` takes beside a name and a mask."""

    meta: Mapping[str, Any] | None
    extras: Mapping[str, Any] | None
    codec: AnyCodec
    prior: Prior | None
    overwrite: bool


class PutsSigned(ABC):
    """What stores masks, and with them their signs."""

    @abstractmethod
    def put(self, name: str, masks: AnyMask, **options: Unpack[PutOptions]) -> None:
        """Store a mask; `MaskBank.put` says how."""

    def put_signed(
        self, name: str, signed: SignedMask, *, sign_prior: Prior | None = None, **options: Unpack[PutOptions]
    ) -> None:
        """Store a signed mask as `put` stores a mask, its signs coded only where it keeps a weight; `signed` reads it.

        Args:
            name: The task.
            signed: The mask, its signs and its scales.
            sign_prior: What is known about the signs: `SeededScores` knows those of the frozen weights. Without it,
                what the prior of the mask knows by itself.
            options: `meta`, `extras`, `codec`, `prior` and `overwrite` as in `put`, which also says what is raised.
        """
        known = sign_prior if sign_prior is not None else options.get("prior")
        options["extras"] = encode_signed(signed, known, options.get("codec", "auto"), options.get("extras"))
        self.put(name, signed.mask, **options)
