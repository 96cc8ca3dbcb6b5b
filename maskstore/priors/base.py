"""What a prior is, and the one that knows nothing."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore._configured import Configured
from maskstore.errors import CorruptError
from maskstore.masks import LayerSpec, Mask, MaskSpec
from maskstore.priors.backbone import Backbone, Places, by_context


@dataclass(frozen=True)
class Contexts:
    """The context of every bit of one layer: a point on a grid of ordered levels x unordered classes.

    `ids[i] = level * classes + class`, shape `(size,)`, uint8. Neighbouring levels are expected to have similar
    probabilities, so a codec may merge them; classes are only labels. `levels` is a power of two. `directions` has +1
    or -1 for each class (default: all +1): an influence that bits of a row or a column share pushes bits of classes
    with opposite directions opposite ways. `places`: gives what `by_context` gives, of a prior that keeps it.
    """

    ids: NDArray[np.uint8]
    levels: int
    classes: int
    directions: tuple[int, ...] = ()
    places: Callable[[], Places] | None = None

    def by_context(self) -> Places:
        """The places of all bits by ascending context, those of one context ascending, `(size,)` unsigned."""
        return by_context(self.ids) if self.places is None else self.places()


class Prior(Configured):
    """Base of all priors: frozen dataclasses with an id, whose fields are their JSON configuration."""

    needs: ClassVar[range] = range(1)
    """How many other masks it refers to."""

    @abstractmethod
    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """The contexts of the bits of layer `index` of `spec`, in C order; `bases` are the masks it refers to.

        `part`: of one block of the layer only (`maskstore.masks.Cut`).
        """

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose masks it refers to, as far as it was told."""
        return ()

    @property
    def alone(self) -> "Prior":
        """What it knows without other masks."""
        return self

    @property
    def known(self) -> Backbone | None:
        """The weights that it has, if it has any."""
        return None

    def over(self, backbone: Backbone | None, what: str = "prior") -> "Prior":
        """The same prior with the weights that it needs, if it does; BackboneError for others, or none.

        Args:
            backbone: The weights of the network, if its caller has them.
            what: Which mask it is of, for the error.
        """
        return self

    def check_bases(self, found: int) -> None:
        """CorruptError unless a record refers to as many masks as this prior needs."""
        if found not in self.needs:
            expected = " to ".join(str(n) for n in sorted({self.needs[0], self.needs[-1]}))
            raise CorruptError(f"prior {self.id}: expected {expected} masks that it refers to, found {found}")


@dataclass(frozen=True)
class Uniform(Prior):
    """Nothing is known: all bits of a layer share one context (their density is still measured and coded).

    Examples:
        >>> from maskstore import MaskSpec, Uniform
        >>> known = Uniform().contexts(MaskSpec({"fc1": (2, 3)}), 0)
        >>> known.ids, known.levels * known.classes
        (array([0, 0, 0, 0, 0, 0], dtype=uint8), 1)
    """

    id: ClassVar[str] = "uniform"

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """One level, one class."""
        return Contexts(np.zeros((part or spec.layers[index]).size, dtype=np.uint8), levels=1, classes=1)
