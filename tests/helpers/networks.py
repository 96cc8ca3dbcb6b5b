"""Small perceptrons, and the masks that a run trains for them."""

from collections.abc import Sequence

from supsup_models import MaskedNetwork
from supsup_models.networks import MultilayerPerceptron


def network(
    sizes: Sequence[int],
    *,
    classes: int | None = None,
    seed: int = 0,
    densities: tuple[float, ...] | None = None,
    weight_gain: float = 1.0,
) -> MaskedNetwork:
    """A perceptron of random weights whose layers have these sizes, inputs first and outputs last."""
    inputs, *hidden, outputs = sizes
    return MaskedNetwork(
        MultilayerPerceptron("small", tuple(hidden)),
        inputs=inputs,
        outputs=outputs,
        classes=classes,
        seed=seed,
        densities=densities,
        weight_gain=weight_gain,
    )
