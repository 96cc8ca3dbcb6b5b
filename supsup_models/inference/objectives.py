"""What task inference looks at in the logits: the objectives H and G.

An objective is a **cost** of each image's logits. It is low when the mask in use is the right one. Its derivative by
alpha_i, the weight of mask i in the superposition, is a cost too. Callers see **preference scores**, which are minus
the cost: higher is more likely. `preference` is the only place that turns one into the other.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from supsup_models._names import check
from supsup_models.errors import InferenceError
from supsup_models.networks import entropy


class Objective(ABC):
    """A differentiable cost of logits, one per image."""

    @abstractmethod
    def cost(self, logits: Tensor) -> Tensor:
        """Cost of each image: `(b, outputs)` -> `(b,)`. Lower means that the mask fits better."""


@final
@dataclass(frozen=True)
class Entropy(Objective):
    """H: the entropy of the softmax over all outputs, in nats (Wortsman et al. 2020, section 3.3)."""

    temperature: float = 1.0
    """What the logits are divided by; above 1, a network that is sure at the superposition still has a gradient."""

    def cost(self, logits: Tensor) -> Tensor:
        return entropy(logits if self.temperature == 1 else logits / self.temperature)


@final
@dataclass(frozen=True)
class Superfluous(Objective):
    """G: minus the log of the probability of the real outputs, with its gradient by the superfluous outputs only.

    The first `classes` outputs are real, the others superfluous. The paper takes logsumexp of all logits and lets its
    gradient through the superfluous outputs only (Wortsman et al. 2020, section 3.4). The gradient here is the same:
    softmax at the superfluous outputs, zero at the others. The value differs, because exhaustive inference compares
    values, and logsumexp mostly tells how large the logit of the right class is.
    """

    classes: int

    def cost(self, logits: Tensor) -> Tensor:
        real = logits[:, : self.classes].detach()
        everything = torch.cat([real, logits[:, self.classes :]], dim=1)
        return torch.logsumexp(everything, dim=1) - torch.logsumexp(real, dim=1)


OBJECTIVES = ("H", "G")


def make_objective(name: str, *, classes: int, outputs: int) -> Objective:
    """The objective of a name.

    Args:
        name: "H" or "G".
        classes: How many outputs of the network are real; these come first.
        outputs: How many outputs the network has.

    Raises:
        UnknownNameError: For another name.
        InferenceError: For G where no output is superfluous.
    """
    if isinstance(name, str) and name == "H":
        return Entropy()
    check("objective", name, OBJECTIVES)
    if classes >= outputs:
        raise InferenceError(
            f"objective G: expected superfluous outputs (classes < outputs), found {classes} classes, {outputs} outputs"
        )
    return Superfluous(classes)


def preference(cost: Tensor) -> Tensor:
    """Preference scores from costs or from their derivatives by alpha: higher is more likely."""
    return -cost
