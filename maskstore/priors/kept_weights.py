"""The prior of masks on a trained network, whose weights encoder and decoder have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from maskstore.errors import BackboneError, CodecError
from maskstore.masks import LayerSpec, Mask, MaskSpec
from maskstore.priors.backbone import FINGERPRINT_BYTES, LEVELS, Backbone
from maskstore.priors.base import Contexts, Prior

_FINGERPRINT = re.compile(f"[0-9a-f]{{{2 * FINGERPRINT_BYTES}}}")


@dataclass(frozen=True)
class KeptWeights(Prior):
    """The mask is of a network whose weights are known: a dropped weight is mostly a small one.

    Levels are 64 bins of |w| with equally many weights of the layer in each. A bank holds the fingerprint alone;
    `MaskBank.open(path, backbone=...)` takes the weights.

    Args:
        backbone: The weights, or their fingerprint.

    Raises:
        CodecError: For neither.
        BackboneError: When a mask is coded or decoded, for no weights or those of another network.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from maskstore import Backbone, KeptWeights, MaskBank
        >>> weights = {"fc": np.random.default_rng(0).normal(size=(200, 300)).astype("f4")}
        >>> backbone, kept = Backbone(weights), {"fc": abs(weights["fc"]) > 0.1}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/tasks.bank", backbone.spec) as bank:
        ...         bank.put("without", kept)
        ...         bank.put("with", kept, prior=KeptWeights(backbone))
        ...         print([bank.info(name).coded_bytes for name in bank])
        ...     with MaskBank.open(f"{folder}/tasks.bank", backbone=backbone) as bank:
        ...         print(bank["with"] == bank["without"])
        [2953, 99]
        True
    """

    backbone: Backbone | str

    id: ClassVar[str] = "kept-weights"

    def __post_init__(self) -> None:
        is_fingerprint = isinstance(self.backbone, str) and _FINGERPRINT.fullmatch(self.backbone) is not None
        if not is_fingerprint and not isinstance(self.backbone, Backbone):
            digits = 2 * FINGERPRINT_BYTES
            raise CodecError(
                f"prior {self.id}: expected a Backbone or its fingerprint of {digits} digits, "
                f"found {self.backbone!r:.60}"
            )

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the weights."""
        return self.backbone if isinstance(self.backbone, str) else self.backbone.fingerprint

    @property
    def known(self) -> Backbone | None:
        """The weights, unless it has their fingerprint alone."""
        return None if isinstance(self.backbone, str) else self.backbone

    def to_config(self) -> dict[str, Any]:
        """The id and the fingerprint."""
        return {"id": self.id, "backbone": self.fingerprint}

    def over(self, backbone: Backbone | None, what: str = "prior") -> Prior:
        """The same with its weights."""
        if isinstance(self.backbone, Backbone):
            return self
        if backbone is None or backbone.fingerprint != self.backbone:
            found = "none (`backbone=weights` gives them)" if backbone is None else backbone.fingerprint
            raise BackboneError(
                f"{what}: expected the weights it was coded against, of fingerprint {self.backbone}, found {found}"
            )
        return KeptWeights(backbone)

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """64 levels of |w|, one class."""
        if isinstance(self.backbone, str):
            raise BackboneError(
                f"prior {self.id}: expected the weights of fingerprint {self.backbone}, found none; give a Backbone"
            )
        own = self.backbone.spec
        if len(own) != len(spec) or own.layers[index] != spec.layers[index]:  # a layer at a time, as layers are coded
            raise BackboneError(f"prior {self.id}: expected weights of {spec!r}, found {own!r}")
        levels = self.backbone.levels(index)
        start, size = (0, levels.size) if part is None else (part.flat_start, part.size)
        places = partial(self.backbone.places, index, start, size)
        return Contexts(levels[start : start + size], levels=LEVELS, classes=1, places=places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeptWeights) and other.fingerprint == self.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)
