"""The optimisers that a recipe names: frozen settings, checked when they are made."""

from dataclasses import dataclass
from math import inf

from supsup_models._names import expect, expect_within, plain_numbers
from supsup_models.errors import NetworkError


@dataclass(frozen=True)
class RMSProp:
    """RMSProp on the scores s with gradient g: `v = alpha v + (1 - alpha) g²; s = s - rate g / (sqrt(v) + eps)`.

    Args:
        learning_rate: the rate at the first step, above 0; a recipe's schedule may lower it.
        alpha: how much of the running square v is kept each step, in [0, 1).
        eps: added to the root, not negative.

    Raises:
        NetworkError: for a value out of its range.

    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning", 2012; defaults as in torch.

    Examples:
        >>> from supsup_models import Recipe, RMSProp
        >>> Recipe("faster", RMSProp(learning_rate=3e-4), schedule="cosine").optimiser
        RMSProp(learning_rate=0.0003, alpha=0.99, eps=1e-08)
    """

    learning_rate: float = 1e-4
    alpha: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        expect_within(lambda x: 0 < x < inf, "RMSProp: expected learning_rate in (0, inf)", self.learning_rate)
        expect_within(lambda x: 0 <= x < 1, "RMSProp: expected alpha in [0, 1)", self.alpha)
        expect_within(lambda x: 0 <= x < inf, "RMSProp: expected eps in [0, inf)", self.eps)
        plain_numbers(self)


@dataclass(frozen=True)
class Adam:
    """Adam on the scores, as torch has it.

    Args:
        learning_rate: the rate at the first step, above 0; a recipe's schedule may lower it.
        betas: how much of the running mean and of the running square is kept each step, in [0, 1).
        eps: added to the root, not negative.

    Raises:
        NetworkError: for a value out of its range.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; defaults as in torch.

    Examples:
        >>> from supsup_models import Adam, Recipe
        >>> Recipe("edge-popup on digits", Adam(3e-3)).optimiser
        Adam(learning_rate=0.003, betas=(0.9, 0.999), eps=1e-08)
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        expect_within(lambda x: 0 < x < inf, "Adam: expected learning_rate in (0, inf)", self.learning_rate)
        expect("Adam's betas", self.betas, (tuple, list), "two numbers")
        if len(self.betas) != 2:
            raise NetworkError(f"Adam: expected two betas, found {len(self.betas)}")
        for beta in self.betas:
            expect_within(lambda x: 0 <= x < 1, "Adam: expected betas in [0, 1)", beta)
        expect_within(lambda x: 0 <= x < inf, "Adam: expected eps in [0, inf)", self.eps)
        plain_numbers(self)


Optimiser = RMSProp | Adam
