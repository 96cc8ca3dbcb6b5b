"""What task inference looks at in the logits, and the one place that fixes which direction is good.

An objective is a **cost** of each image's logits: low when the mask in use is the right one. Its derivative by alpha_i,
the weight of mask i in the superposition, is a cost too. What callers see are **preference scores**, minus the cost:
higher is more likely.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from supsup_models._names import check
from supsup_models.errors import InferenceError


class Objective(ABC):
    """A differentiable cost of logits, one per image."""

    @abstractmethod
    def cost(self, logits: Tensor) -> Tensor:
        """Cost of each image: `(b, outputs)` -> `(b,)`; lower means that the mask fits better."""

    def gradient(self, logits: Tensor) -> Tensor:
        """Derivative of the batch's mean cost by the logits: `(b, outputs)` -> `(b, outputs)`, part of no graph.

        By autograd of `cost`; an objective that knows the closed form can give that.
        """
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            return torch.autograd.grad(self.cost(leaf).mean(), leaf)[0]


@final
@dataclass(frozen=True)
class Entropy(Objective):
    """H: the entropy of the softmax over all outputs, in nats (Wortsman et al. 2020, section 3.3)."""

    def cost(self, logits: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, dim=1)
        return -(log_p.exp() * log_p).sum(dim=1)


@final
@dataclass(frozen=True)
class Superfluous(Objective):
    """G: logsumexp of the logits, with the gradient let through the superfluous outputs only (section 3.4).

    The first `classes` outputs are real. That gradient, softmax at the superfluous outputs and zero elsewhere, is the
    gradient through them of -log(probability of the real outputs), so that is the value: it is what exhaustive
    inference compares, where logsumexp itself would mostly tell how large the right answer's logit is.
    """

    classes: int

    def cost(self, logits: Tensor) -> Tensor:
        real = logits[:, : self.classes].detach()
        everything = torch.cat([real, logits[:, self.classes :]], dim=1)
        return torch.logsumexp(everything, dim=1) - torch.logsumexp(real, dim=1)


OBJECTIVES = ("H", "G")


def make_objective(name: str, *, classes: int, outputs: int) -> Objective:
    """The objective of a name for a network of so many outputs, the first `classes` of them real.

    Raises UnknownNameError, and InferenceError for G where no output is superfluous.
    """
    check("objective", name, OBJECTIVES)
    if name == "H":
        return Entropy()
    if classes >= outputs:
        raise InferenceError(
            f"objective G: expected superfluous outputs (classes < outputs), found {classes} classes, {outputs} outputs"
        )
    return Superfluous(classes)


def preference(cost: Tensor) -> Tensor:
    """Preference scores from costs or from their derivatives by alpha: higher is more likely."""
    return -cost
