"""`recover`: find the stored pattern that a model is sure of, from the model's entropy alone.

A recipe is handed the memory's `energy` and `field` and nothing else of it, and of the model one function from a soft
mask to a scalar. No label and no task name gets in here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import EntropyError, PatternError, RuleError

Entropy = Callable[[Tensor], Tensor]
"""A differentiable function from a soft mask `(d,)` in [0, 1] to a scalar; it may draw other data at each call."""


class RecoverableMemory(Protocol):
    """All that recovery may use of a memory."""

    @property
    def dim(self) -> int:
        """Number of neurons d."""

    @property
    def device(self) -> torch.device:
        """Where fields are computed."""

    def energy(self, state: Any) -> Tensor:
        """Energy of a state."""

    def field(self, state: Any) -> Tensor:
        """Local field of every neuron."""


@dataclass(frozen=True)
class _EnergyAndField:
    """What a recipe gets of a memory, whatever else the memory could tell."""

    dim: int
    device: torch.device
    energy: Callable[[Any], Tensor]
    field: Callable[[Any], Tensor]


@dataclass
class Trace:
    """What happened at each step; lists of equal length."""

    entropy: list[float] = field(default_factory=list)
    """The entropy at the step's soft mask, in the entropy's own unit (nats for the usual one)."""
    states: list[Tensor] = field(default_factory=list)
    """Bits of the step's state, bool `(d,)`: whole states, so that Hamming distances can be plotted afterwards."""
    confidence: float | None = None
    """What the recipe thinks of its answer, in [0, 1]; None if it has no opinion."""

    def add(self, entropy: float, state: Tensor) -> None:
        """Note one step: the entropy found, and the state after it."""
        self.entropy.append(entropy)
        self.states.append(pt.to_bits(state).cpu())


@dataclass(frozen=True)
class Recovery:
    """The answer of `recover`."""

    pattern: Tensor
    """The recovered pattern, -1/+1, `(d,)`: one, since the data of one entropy speak of one."""
    trace: Trace
    """Entropy and state at every step."""
    converged: bool
    """Whether `pattern` is a fixed point of the memory."""
    steps: int
    """How often the entropy was evaluated (each time on one batch of data), everything counted."""
    confidence: float | None
    """The recipe's own opinion that a stored pattern fits the data, in [0, 1]; None if the recipe has none."""


class RecoveryRecipe(ABC):
    """How energy and entropy are brought together; a frozen dataclass."""

    @abstractmethod
    def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
        """The recovered state, -1/+1, `(d,)`, from the soft state `initial` `(d,)` in [-1, 1]."""


def recover(memory: RecoverableMemory, entropy: Entropy, recipe: RecoveryRecipe, *, initial: Any = None) -> Recovery:
    """Recover the stored pattern under which `entropy` is low.

    `initial` is the state to start from, `(d,)` in [-1, 1]; the mean of the stored patterns is a good one. Without it
    every neuron is undecided (0, a soft mask of one half). EmptyMemoryError if nothing is stored, EntropyError if the
    entropy is not a finite scalar with a gradient.
    """
    if not isinstance(recipe, RecoveryRecipe):
        raise RuleError(f"recover: expected a recipe such as MeanFieldRecipe(), found {recipe!r:.60}")
    start = torch.zeros(memory.dim) if initial is None else initial
    start = pt.as_state(start, memory.dim, device=memory.device)
    if start.ndim != 1 or bool((start.abs() > 1 + 1e-5).any()):
        raise PatternError(f"initial state: expected shape ({memory.dim},) in [-1, 1], found {tuple(start.shape)}")
    trace = Trace()
    seen = _EnergyAndField(memory.dim, memory.device, memory.energy, memory.field)
    state = recipe.run(seen, entropy, start, trace)
    converged = bool((pt.signs_or(memory.field(state), state) == state).all())
    return Recovery(state, trace, converged, len(trace.entropy), trace.confidence)


def entropy_gradient(entropy: Entropy, mask: Tensor) -> tuple[float, Tensor]:
    """The entropy of a soft mask and its gradient `(d,)`; EntropyError if it has none, or one that is not finite."""
    mask = mask.detach().requires_grad_()
    with torch.enable_grad():
        value = entropy(mask)
        gradient = None
        if isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad:
            (gradient,) = torch.autograd.grad(value, mask, allow_unused=True)
    if gradient is None:
        raise EntropyError(f"entropy: expected a scalar tensor that depends on the mask, found {value!r:.60}")
    if not bool(torch.isfinite(gradient).all()):
        raise EntropyError("entropy: expected a finite gradient, found NaN or infinity")
    return _finite(value.item()), gradient


def mean_entropy(entropy: Entropy, state: Tensor, calls: int, trace: Trace) -> float:
    """The mean entropy of a state of spins over some calls, each noted in the trace."""
    mask, total = pt.to_soft_mask(state), 0.0
    for _ in range(calls):
        with torch.no_grad():
            value = _finite(float(entropy(mask)))
        trace.add(value, state)
        total += value
    return total / calls


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise EntropyError(f"entropy: expected a finite value, found {value}")
    return value
