"""`recover`: find the stored pattern that a model is sure of, from the model's entropy alone.

A recipe is handed the memory's `energy` and `field` and nothing else of it, and of the model one function from a soft
mask to a scalar. No label and no task name gets in here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import EntropyError, PatternError, RuleError
from hopfield.memories import Memory

Entropy = Callable[[Tensor], Tensor]
"""A differentiable function from a soft mask `(d,)` in [0, 1] to a scalar; it may look at other data at each call."""


@dataclass(frozen=True)
class RecoverableMemory:
    """All that a recipe gets of a memory, whatever else the memory could tell."""

    dim: int
    """Number of neurons d."""
    device: torch.device
    """Where fields are computed."""
    energy: Callable[[Any], Tensor]
    """Energy of a state: `(d,)` -> scalar."""
    field: Callable[[Any], Tensor]
    """Local field of every neuron: `(d,)` -> `(d,)`."""


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
    """The answer of `recover`.

    Examples:
        >>> import torch
        >>> from hopfield import DualMemory, MeanFieldRecipe, PseudoInverse, patterns, recover
        >>> stored = patterns.random_patterns(6, 100, torch.Generator().manual_seed(0))
        >>> memory = DualMemory.of_patterns(stored, PseudoInverse())
        >>> found = recover(memory, lambda mask: ((2 * mask - 1 - stored[2]) ** 2).mean(), MeanFieldRecipe(restarts=6))
        >>> found.converged, found.steps, found.confidence > 0.99
        (True, 136, True)
        >>> [round(entropy, 2) for entropy in found.trace.entropy[:3]]  # falls while the state condenses
        [1.0, 0.21, 0.06]
    """

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
    """How energy and entropy are brought together; a frozen dataclass whose fields are its settings.

    Examples:
        A recipe of your own is one method. This one reads the entropy's gradient once, as a cue:

        >>> from dataclasses import dataclass
        >>> import torch
        >>> from hopfield import DualMemory, PseudoInverse, RecoveryRecipe, patterns, recover
        >>> from hopfield.recovery import entropy_gradient
        >>> @dataclass(frozen=True)
        ... class OneLook(RecoveryRecipe):
        ...     sweeps: int = 10
        ...
        ...     def run(self, memory, entropy, initial, trace):
        ...         value, gradient = entropy_gradient(entropy, patterns.to_soft_mask(initial))
        ...         state = -gradient
        ...         for _ in range(self.sweeps):
        ...             state = patterns.signs_or(memory.field(state), state)
        ...         trace.add(value, state)
        ...         return state
        >>> stored = patterns.random_patterns(6, 100, torch.Generator().manual_seed(0))
        >>> memory = DualMemory.of_patterns(stored, PseudoInverse())
        >>> found = recover(memory, lambda mask: ((2 * mask - 1 - stored[2]) ** 2).mean(), OneLook())
        >>> torch.equal(found.pattern, stored[2])
        True
    """

    @abstractmethod
    def run(self, memory: RecoverableMemory, entropy: Entropy, initial: Tensor, trace: Trace) -> Tensor:
        """Recover a pattern.

        Args:
            memory: Its energy and field.
            entropy: The model's entropy of a soft mask.
            initial: The soft state to start from, `(d,)` in [-1, 1].
            trace: Where each step is noted, with `trace.add`.

        Returns:
            The recovered state, -1/+1, `(d,)`.
        """


def recover(memory: Memory, entropy: Entropy, recipe: RecoveryRecipe, *, initial: Any = None) -> Recovery:
    """Recover the stored pattern under which the model's entropy is low.

    Args:
        memory: The memory. Only its energy and field are used.
        entropy: A differentiable function from a soft mask `(d,)` in [0, 1] to a scalar. It may look at other data at
            each call.
        recipe: How energy and entropy are brought together.
        initial: The state to start from, `(d,)` in [-1, 1]; the mean of the stored patterns is a good one. Without it
            every neuron is undecided (0, a soft mask of one half).

    Returns:
        The pattern found, with what happened on the way.

    Raises:
        EmptyMemoryError: Nothing is stored.
        EntropyError: The entropy is not a finite scalar with a finite gradient.
        PatternError: The initial state has values outside [-1, 1] or more than one dimension.
        RuleError: `recipe` is no recipe.

    Examples:
        The data speak of 90 of 300 bits, and the memory knows the rest:

        >>> import torch
        >>> from hopfield import DualMemory, MeanFieldRecipe, PseudoInverse, patterns, recover
        >>> stored = patterns.random_patterns(20, 300, torch.Generator().manual_seed(0))
        >>> memory = DualMemory.of_patterns(stored, PseudoInverse())
        >>> known = (stored[7, :90] + 1) / 2
        >>> def entropy(mask: torch.Tensor) -> torch.Tensor:
        ...     return ((mask[:90] - known) ** 2).mean()
        >>> found = recover(memory, entropy, MeanFieldRecipe(), initial=stored.mean(0))
        >>> torch.equal(found.pattern, stored[7])
        True
    """
    if not isinstance(recipe, RecoveryRecipe):
        raise RuleError(f"recover: expected a recipe such as MeanFieldRecipe(), found {recipe!r:.60}")
    start = torch.zeros(memory.dim, dtype=torch.float32) if initial is None else initial
    start = pt.as_state(start, memory.dim, device=memory.device)
    if start.ndim != 1 or bool((start.abs() > 1 + 1e-5).any()):
        raise PatternError(f"initial state: expected shape ({memory.dim},) in [-1, 1], found {tuple(start.shape)}")
    trace = Trace()
    seen = RecoverableMemory(memory.dim, memory.device, memory.energy, memory.field)
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
