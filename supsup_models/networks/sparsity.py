"""How many weights each layer of a sparse network keeps: uniform, Erdős-Rényi, Erdős-Rényi-kernel and equal budgets.

ER: Mocanu et al., Nature Communications 2018. A layer's density is ε (n_in + n_out) / (n_in n_out), so that small
layers are denser. ERK: Evci et al., "Rigging the lottery", ICML 2020; the same with the kernel's sizes among the terms
and the factors. Wortsman et al. 2020 use ER with every layer's density capped at one half, where a layer has most
subnetworks. Equal budgets give every layer the same number of weights, which is better than ER at few bits (`recipes`).

A layer's shape is `(out, in)` or `(out, in, kernel...)`.
"""

from collections.abc import Mapping
from math import prod

from maskstore import Mask
from maskstore.masks import popcount
from supsup_models._names import check
from supsup_models.errors import SparsityError

Shapes = Mapping[str, tuple[int, ...]]
_CAPS = {"uniform": 1.0, "er": 0.5, "erk": 1.0, "equal": 0.5}
SPARSITIES = tuple(_CAPS)
_SLACK = 1e-9


def layer_densities(shapes: Shapes, sparsity: str, density: float, *, cap: float | None = None) -> dict[str, float]:
    """Each layer's density, so that all layers together keep `density` of their weights.

    Args:
        shapes: each layer's shape by name, `(out, in)` or `(out, in, kernel...)`.
        sparsity: "uniform", "er", "erk" or "equal".
        density: the share of all weights that is kept, in (0, 1].
        cap: the most that a layer may keep; None stands for 0.5 with "er", as published, and with "equal", and for 1
            otherwise. Layers whose share would be larger get the cap, and the others share what is left in the same
            proportions.

    Returns:
        The layers' densities by name, in the order of `shapes`.

    Raises:
        UnknownNameError: for another sparsity.
        SparsityError: for a density outside (0, 1] or above the cap.

    Source: Mocanu et al. 2018 (ER), Evci et al. 2020 (ERK); see the module.

    Examples:
        >>> from supsup_models import MaskedNetwork, layer_densities
        >>> model = MaskedNetwork("lenet-300-100", inputs=784, outputs=100, seed=0)
        >>> {name: round(share, 3) for name, share in layer_densities(model.spec.shapes, "equal", 0.05).items()}
        {'fc1': 0.02, 'fc2': 0.153, 'fc3': 0.459}
    """
    check("sparsity", sparsity, SPARSITIES)
    cap = _CAPS[sparsity] if cap is None else cap
    check_density("density", density)
    check_density("cap", cap)
    if density > cap + _SLACK:
        raise SparsityError(f"density: expected at most the cap {cap:g} of {sparsity} layers, found {density:g}")
    if sparsity == "uniform":
        return dict.fromkeys(shapes, density)
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    weights = {name: _relative_density(shape, sparsity) for name, shape in shapes.items()}
    capped: set[str] = set()
    while True:  # at least one more layer is capped each time around
        left = density * sum(sizes.values()) - cap * sum(sizes[name] for name in capped)
        demand = sum(sizes[name] * weights[name] for name in shapes if name not in capped)
        epsilon = left / demand if demand else 0.0
        over = {name for name in shapes if name not in capped and epsilon * weights[name] > cap + _SLACK}
        if not over:
            return {name: cap if name in capped else min(cap, epsilon * weights[name]) for name in shapes}
        capped |= over


def erdos_renyi(shapes: Shapes, epsilon: float, *, kernel: bool = False, cap: float = 0.5) -> dict[str, float]:
    """Each layer's density at a given ε. How many weights they keep together follows; `layer_densities` sets that.

    Args:
        shapes: each layer's shape by name, `(out, in)` or `(out, in, kernel...)`.
        epsilon: a layer's density is ε (n_in + n_out) / (n_in n_out), above 0.
        kernel: whether the kernel's sizes count among the terms and factors (ERK); without, ER.
        cap: the most that a layer may keep, in (0, 1].

    Returns:
        The layers' densities by name, in the order of `shapes`.

    Raises:
        SparsityError: for an ε that is not positive or a cap outside (0, 1].

    Source: Mocanu et al. 2018 (ER), Evci et al. 2020 (ERK); see the module.

    Examples:
        >>> from supsup_models import erdos_renyi
        >>> erdos_renyi({"conv": (16, 8, 3, 3), "fc": (10, 160)}, epsilon=2.0)
        {'conv': 0.375, 'fc': 0.2125}
    """
    check_density("cap", cap)
    if not 0 < epsilon < float("inf"):
        raise SparsityError(f"epsilon: expected a positive number, found {epsilon}")
    return {
        name: min(cap, epsilon * _relative_density(shape, "erk" if kernel else "er")) for name, shape in shapes.items()
    }


def kept_weights(size: int, density: float) -> int:
    """How many of a layer's `size` weights a density keeps: to the nearest, at least one."""
    return max(1, min(size, round(size * density)))


def mask_densities(mask: Mask) -> dict[str, float]:
    """The share of set bits in each layer of a mask, by the layer's name.

    Examples:
        >>> from supsup_models import MaskedNetwork, mask_densities
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0, densities=(0.1, 0.2, 0.5))
        >>> mask = model.mask_of(model.initial_scores(task=0))
        >>> {name: round(share, 3) for name, share in mask_densities(mask).items()}
        {'fc1': 0.1, 'fc2': 0.2, 'fc3': 0.5}
    """
    return {layer.name: popcount(mask.words[layer.packed]) / layer.size if layer.size else 0.0 for layer in mask.spec}


def check_density(name: str, value: float) -> None:
    """SparsityError unless a density lies in (0, 1]."""
    if not 0 < value <= 1:
        raise SparsityError(f"{name}: expected a number in (0, 1], found {value}")


def _relative_density(shape: tuple[int, ...], sparsity: str) -> float:
    """A layer's density at ε = 1, uncapped."""
    if sparsity == "equal":
        return 1.0 / prod(shape)
    dimensions = shape if sparsity == "erk" else shape[:2]
    return sum(dimensions) / prod(dimensions)
