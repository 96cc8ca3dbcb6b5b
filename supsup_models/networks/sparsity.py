"""How many weights each layer of a sparse network keeps: uniform, Erdős-Rényi, Erdős-Rényi-kernel and equal budgets.

ER: Mocanu et al., Nature Communications 2018. A layer's density is ε (n_in + n_out) / (n_in n_out), so that small
layers are denser. ERK: Evci et al., "Rigging the lottery", ICML 2020; the same with the kernel's sizes among the terms
and the factors. Wortsman et al. 2020 use ER with every layer's density capped at one half, where a layer has most
subnetworks. Equal budgets give every layer the same number of weights: at few bits that is better than ER (`recipes`).

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

    sparsity: "uniform", "er", "erk" or "equal". Layers whose share would exceed `cap` (default 1, for "er" 0.5 as
    published, and for "equal") get the cap, and the others share what is left in the same proportions. Raises
    UnknownNameError for other names and SparsityError for a density outside (0, 1] or above the cap.
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
    """Each layer's density at a given ε, capped: ER, or ERK with `kernel`; what they keep together is what comes out.

    Raises SparsityError for an ε that is not positive or a cap outside (0, 1].
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
    """The share of set bits in each layer of a mask, for a run's record."""
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
