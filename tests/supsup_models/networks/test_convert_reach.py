"""Modules that a module holds where neither a copy of it nor a mask follows: refused, not run without a mask."""

from itertools import cycle

import pytest
import torch
from torch import nn

from supsup_models import convert
from supsup_models.errors import ConversionError


class Slotted:
    __slots__ = ("_Slotted__held", "unused")

    def __init__(self, held: object) -> None:
        self.__held = held


class Holding(nn.Module):
    def __init__(self, held) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.held = held(self.layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize(
    "held",
    [
        Slotted,
        lambda layer: [Slotted(layer)],
        lambda layer: {layer: "name"},
        lambda layer: cycle([layer]),
        lambda layer: iter([layer]),
        lambda layer: [[[[[layer]]]]],
    ],
    ids=["slot", "slot in a list", "dict key", "cycle", "iterator", "deep"],
)
def test_a_module_that_a_copy_would_not_follow_is_refused(held):
    with pytest.raises(
        ConversionError, match=r"^held: expected modules that are reached as attributes, found a Linear"
    ):
        convert(Holding(held))


@pytest.mark.parametrize(
    "held", [lambda _: Slotted("text"), lambda _: {"a": 1}, lambda layer: [[[[layer]]]], lambda _: cycle([1])]
)
def test_holders_without_hidden_modules_are_taken(held):
    model = convert(Holding(held))
    mask = model.mask_of(model.initial_scores(0))
    x = torch.ones(2, 4)
    assert torch.equal(model(x, mask), model.export(mask)(x))
