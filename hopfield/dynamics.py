"""How states move: asynchronous, synchronous and mean-field updates. They know a memory by its field only."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import RuleError, check_choice

Update = Literal["synchronous", "asynchronous"]
"""Which neurons move together: all at once, or one by one in a random order."""


class HasField(Protocol):
    """What the dynamics need of a memory."""

    @property
    def dim(self) -> int:
        """Number of neurons d."""

    @property
    def device(self) -> torch.device:
        """Where fields are computed."""

    def field(self, state: Any) -> Tensor:
        """Local field of every neuron, the shape of `state`."""

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""


@dataclass(frozen=True)
class Relaxed:
    """Where cues came to rest; the result of `relax`.

    Examples:
        Two neurons that each copy the other's spin never agree when both move at once:

        >>> import torch
        >>> from hopfield import HopfieldNetwork
        >>> from hopfield.dynamics import relax
        >>> network = HopfieldNetwork(2)
        >>> network.store(torch.tensor([True, True]))
        >>> rest = relax(network, torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
        >>> rest.cycles
        tensor([ True, False])
        >>> rest.states[rest.converged]
        tensor([[1., 1.]])
    """

    states: Tensor
    """Final states of -1/+1, the shape of the cues."""
    converged: Tensor
    """True where the state is a fixed point, bool `(b,)` (or scalar)."""
    cycles: Tensor
    """True where synchronous updates ended in a cycle of two states, of which the first is given. Bool `(b,)`."""
    sweeps: int
    """Sweeps (updates of all neurons) until nothing moved, or the limit; one number for all cues of the batch."""


def relax(
    memory: HasField, cues: Any, *, update: Update = "synchronous", max_sweeps: int = 100, seed: int = 0
) -> Relaxed:
    """Update cues until all are fixed points or in cycles of two states.

    Synchronous updates are fast and have wide basins of attraction. They may end in a cycle of two states, for
    symmetric couplings in no longer one. Asynchronous updates never raise the energy, if the couplings are symmetric.

    Args:
        memory: The memory whose field moves the neurons.
        cues: `(d,)` or `(b, d)`, bool or real. Real values are read by their sign; a value of 0 takes the sign of its
            first field, or -1 if that is 0 too.
        update: Whether all neurons move at once, or one by one in a random order.
        max_sweeps: The most sweeps, at least 1.
        seed: Fixes the order of asynchronous updates.

    Returns:
        The final states, and how they were reached.

    Raises:
        RuleError: An unknown `update`, or `max_sweeps` below 1.
        DimensionError: The cues have another number of neurons than the memory.
        PatternError: The cues hold NaN or infinity.

    Source:
        Cycles: Goles-Chacc, Fogelman-Soulie and Pellegrin, "Decreasing energy functions as a tool for studying
        threshold networks", Discrete Applied Mathematics 1985.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, patterns
        >>> from hopfield.dynamics import relax
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.random_patterns(4, 100, generator)
        >>> network = HopfieldNetwork(100)
        >>> network.store(stored)
        >>> rest = relax(network, patterns.flip(stored, 0.1, generator), update="asynchronous")
        >>> torch.equal(rest.states, stored), rest.sweeps
        (True, 2)
    """
    check_choice("update", update, get_args(Update))
    if max_sweeps < 1:
        raise RuleError(f"max_sweeps: expected at least 1, found {max_sweeps}")
    given = pt.as_state(cues, memory.dim, device=memory.device)
    state = given.unsqueeze(0) if given.ndim == 1 else given
    # a cue of zero has no sign to keep, so that the first field decides it
    state = torch.where(state == 0, pt.signs_or(memory.field(state), -torch.ones_like(state)), state.sign())
    cycles = torch.zeros(len(state), dtype=torch.bool, device=state.device)
    moving = ~cycles
    generator = torch.Generator().manual_seed(seed)
    before = torch.zeros_like(state)  # equal to no state of -1/+1
    sweep = 0
    while sweep < max_sweeps and bool(moving.any()):
        sweep += 1
        last = state
        if update == "synchronous":
            state = torch.where(moving[:, None], pt.signs_or(memory.field(state), state), state)
            changed = (state != last).any(1)
            cycles |= moving & changed & (state == before).all(1)
            before = last
        else:
            state = state.clone()
            for neuron in torch.randperm(memory.dim, generator=generator).tolist():
                state[:, neuron] = pt.signs_or(memory.field_at(state, neuron), state[:, neuron])
            changed = (state != last).any(1)
        moving = changed & ~cycles
    asked = slice(None) if given.ndim == 2 else 0
    return Relaxed(state[asked], (~moving & ~cycles)[asked], cycles[asked], sweep)


def mean_field(
    memory: HasField, state: Any, *, beta: float, cue: Any = None, steps: int = 1, damping: float = 0.0
) -> Tensor:
    """Repeat `s <- damping s + (1 - damping) tanh(beta (h(s) + cue))`: soft states at temperature 1 / beta.

    Args:
        memory: The memory whose field h is used.
        state: Where to start, `(d,)` or `(b, d)`.
        beta: Inverse temperature, above 0 and finite.
        cue: An outer field that is added to h, the shape of `state` or `(d,)`; None adds nothing.
        steps: How often, at least 1.
        damping: How much of the old state stays, in [0, 1).

    Returns:
        Soft states in [-1, 1], the shape of `state`.

    Raises:
        RuleError: A number outside its range.

    Source:
        The naive mean-field equations of an Ising model: Amit, "Modeling Brain Function", 1989, chapter 4.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, patterns
        >>> from hopfield.dynamics import mean_field
        >>> stored = patterns.random_patterns(4, 100, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(100)
        >>> network.store(stored)
        >>> soft = mean_field(network, 0.3 * stored, beta=8.0, steps=20)  # weak copies of the patterns grow strong
        >>> bool((patterns.overlap(soft, stored).diagonal() > 0.95).all())
        True
    """
    if not 0 < beta < math.inf or not 0 <= damping < 1 or steps < 1:
        raise RuleError(
            f"mean field: expected a finite beta > 0, damping in [0, 1), steps >= 1, found {beta}, {damping}, {steps}"
        )
    soft = pt.as_state(state, memory.dim, device=memory.device)
    outer = 0.0 if cue is None else pt.as_state(cue, memory.dim, device=memory.device)
    for _ in range(steps):
        soft = damping * soft + (1 - damping) * torch.tanh(beta * (memory.field(soft) + outer))
    return soft


def glauber(
    memory: HasField, state: Any, *, temperature: float, sweeps: int = 100, burn_in: int = 0, seed: int = 0
) -> Tensor:
    """Stochastic dynamics: one neuron after another becomes +1 with probability `1 / (1 + exp(-2 h / T))`.

    This is heat-bath dynamics. For symmetric couplings its states follow the Boltzmann distribution `exp(-E / T)`.

    Args:
        memory: The memory whose field h is used.
        state: Where to start, `(d,)` or `(b, d)`; values of 0 count as -1.
        temperature: T, above 0.
        sweeps: How often all neurons are updated, in a new random order each time.
        burn_in: Sweeps before the mean is taken, from 0 to `sweeps - 1`.
        seed: What the order and the chances follow from.

    Returns:
        The mean state over the sweeps after `burn_in`, in [-1, 1], the shape of `state`. Its overlap with a stored
        pattern is what `hopfield.theory.hebbian_overlap` predicts for the Hebb rule.

    Raises:
        RuleError: A number outside its range.

    Source:
        Glauber, "Time-dependent statistics of the Ising model", Journal of Mathematical Physics 1963.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, patterns
        >>> from hopfield.dynamics import glauber
        >>> stored = patterns.random_patterns(2, 200, torch.Generator().manual_seed(0))
        >>> network = HopfieldNetwork(200)
        >>> network.store(stored)
        >>> cold, hot = (glauber(network, stored[0], temperature=t, sweeps=40, burn_in=20) for t in (0.3, 3.0))
        >>> float(patterns.overlap(cold, stored[0])) > 0.9, float(patterns.overlap(hot, stored[0])) < 0.3
        (True, True)
    """
    if not 0 < temperature < math.inf or not 0 <= burn_in < sweeps:
        raise RuleError(
            "Glauber dynamics: expected a finite temperature > 0 and 0 <= burn_in < sweeps, "
            f"found {temperature}, {burn_in} and {sweeps}"
        )
    given = pt.as_state(state, memory.dim, device=memory.device)
    spins = torch.where(given.reshape(-1, memory.dim) > 0, 1.0, -1.0)
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(spins)
    for sweep in range(sweeps):
        order = torch.randperm(memory.dim, generator=generator).tolist()
        chances = torch.rand((memory.dim, len(spins)), generator=generator, dtype=torch.float32).to(spins.device)
        for neuron, chance in zip(order, chances, strict=True):
            up = torch.sigmoid(2 * memory.field_at(spins, neuron) / temperature)
            spins[:, neuron] = torch.where(chance < up, 1.0, -1.0)
        if sweep >= burn_in:
            total += spins
    return (total / (sweeps - burn_in)).reshape(given.shape)
