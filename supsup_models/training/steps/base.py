"""What a training step is, and the ways to take one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from torch import Tensor

Stepping = Literal["fused", "bfloat16", "autograd"]
"""How steps are computed: by hand in the scores' precision, by hand with products in bfloat16, or by torch."""


class Step(ABC):
    """Trains flat scores `(spec.bits,)` in place, and the task's normalisation statistics, if any, with them."""

    scores: Tensor
    statistics: Mapping[str, Tensor] = MappingProxyType({})

    @property
    def final_scores(self) -> Tensor:
        """The scores that the mask is made of after the last step."""
        return self.scores

    logits: Tensor
    """What the network answered to the images of the last step, before its update, `(..., b, outputs)`."""

    @abstractmethod
    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """One update at a learning rate, from images `(b, inputs)` and labels `(b,)` int64.

        Returns the mean cross-entropy before it.
        """
