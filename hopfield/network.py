"""`HopfieldNetwork`: the dense memory, a matrix Ψ over d neurons."""

import warnings
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield import storage
from hopfield.couplings import Couplings, FullCouplings, SymmetricCouplings
from hopfield.errors import CapacityWarning, DimensionError, ForgetError, NoEnergyError, PatternError, RuleError
from hopfield.memory import Memory
from hopfield.rules import Hebbian, Rule, from_settings

Centre = float | Tensor | Literal["auto"] | None


@storage.register
class HopfieldNetwork(Memory):
    """A dense Hopfield network: `E(z) = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`, field `h = Ψ (z - c) + θ c`, zero diagonal.

    `rule` says how patterns become Ψ, `centre` what is subtracted from patterns and states: nothing (`None`), one
    number or a vector `(d,)` in (-1, 1), or `"auto"`: the activity of the first patterns stored, where that differs
    from zero by more than chance allows (Tsodyks and Feigel'man 1988), else nothing. The threshold θ is 0 without a
    centre, and with one the mean gain of the patterns as they were stored, where `Ψ (z - c)` is about `θ (z - c)`: the
    field of a pattern is then about θ z, so that rare and frequent spins are held alike. Ψ is float32, and half of it
    is kept where the rule makes it symmetric.
    """

    def __init__(
        self,
        dim: int,
        rule: Rule | None = None,
        *,
        centre: Centre = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        if dim < 1:
            raise DimensionError(f"HopfieldNetwork: expected at least one neuron, found {dim}")
        if rule is not None and not isinstance(rule, Rule):
            raise RuleError(f"HopfieldNetwork: expected a rule such as Hebbian(), found {rule!r:.60}")
        self.rule = rule or Hebbian()
        self._dim = dim
        self._count = 0
        self._threshold = 0.0
        self._auto = isinstance(centre, str)
        self._centre = _checked_centre(centre, dim, device)
        self._packed = np.zeros((0, (dim + 63) // 64), dtype=np.uint64)
        self._couplings = self._wrap(torch.zeros(dim, dim, device=device))

    @property
    def dim(self) -> int:
        """Number of neurons d."""
        return self._dim

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the couplings, of a centre, and of the packed patterns where the rule needs them."""
        centre = 0 if self._centre is None else self._centre.numel() * 4
        return self._couplings.nbytes + centre + self._packed.nbytes

    @property
    def limit(self) -> float:
        """Patterns the rule holds by its theory."""
        return self.rule.limit(self._dim)

    @property
    def device(self) -> torch.device:
        """Where the couplings lie."""
        return self._couplings.device

    @property
    def threshold(self) -> float:
        """θ: the centre times this is added to every field."""
        return self._threshold

    @property
    def centre(self) -> Tensor | None:
        """What is subtracted from every state: `(d,)`, or one number `()`, or None."""
        return self._centre

    def couplings(self) -> Tensor:
        """Ψ with zero diagonal, `(d, d)` float32, a copy."""
        return self._couplings.dense().fill_diagonal_(0)

    def store(self, patterns: Any) -> None:
        """Add patterns `(k, d)` or `(d,)`; warns `CapacityWarning` first if the rule's limit would be passed."""
        new = pt.as_patterns(patterns, self._dim, device=self.device)
        if not len(new):
            return
        after = self._count + len(new)
        if after > self.limit:
            warnings.warn(
                f"{after} patterns on {self._dim} neurons: expected at most {self.limit:.0f} by the theory of "
                f"{self.rule.id!r}, beyond it patterns are lost",
                CapacityWarning,
                stacklevel=2,
            )
        centre = self._centre
        if self._auto and not self._count:
            centre = _auto_centre(new)
        earlier = pt.unpack(self._packed, self._dim).to(self.device) if self.rule.needs_patterns else None
        learned = self.rule.learn(
            self._couplings.dense(),
            _centred(new, centre),
            None if earlier is None else _centred(earlier, centre),
        )
        couplings, threshold = self._wrap(learned), self._threshold
        if centre is not None:
            gain = _gains(couplings, _centred(new, centre)).sum().item()
            threshold = (self._count * threshold + gain) / after
        self._couplings, self._centre, self._count, self._threshold = couplings, centre, after, threshold
        if self.rule.needs_patterns:
            self._packed = np.concatenate([self._packed, pt.pack(new)])

    def forget(self, patterns: Any) -> None:
        """Take stored patterns out again; ForgetError where the rule cannot.

        The memory does not check that it holds them: taking out what was never stored leaves its negative behind.
        """
        if not self.rule.can_forget:
            raise ForgetError(f"forget: expected a rule that can forget (Hebbian), found {self.rule.id!r}")
        old = pt.as_patterns(patterns, self._dim, device=self.device)
        if len(old) > self._count:
            raise ForgetError(f"forget: expected at most the {self._count} patterns stored, found {len(old)}")
        self._couplings = self._wrap(self.rule.unlearn(self._couplings.dense(), _centred(old, self._centre)))
        self._count -= len(old)

    def field(self, state: Any) -> Tensor:
        """Local field `h = Ψ (z - c) + θ c`, the shape of `state`; for symmetric Ψ minus the energy's gradient."""
        z = self._state(state)
        return self._field(z.unsqueeze(0)).squeeze(0) if z.ndim == 1 else self._field(z)

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        z = _centred(state, self._centre)
        row = self._couplings.row(neuron)
        field = z @ row - z[:, neuron] * row[neuron]
        return field if self._centre is None else field + self._threshold * self._centre.expand(self._dim)[neuron]

    def energy(self, state: Any) -> Tensor:
        """`E = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`: `(d,)` -> scalar, `(b, d)` -> `(b,)`.

        NoEnergyError unless Ψ is symmetric.
        """
        if not self.rule.symmetric:
            raise NoEnergyError(f"energy: expected symmetric couplings, found those of {self.rule!r}")
        z = self._state(state)
        if self._centre is None:
            return -0.5 * (z * self.field(z)).sum(-1)
        pull, push = z - self._centre, self._threshold * self._centre
        return -0.5 * (pull * (self.field(z) - push)).sum(-1) - (push * z).sum(-1)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device; returns itself."""
        self._couplings = self._wrap(self._couplings.dense().to(device))
        self._centre = None if self._centre is None else self._centre.to(device)
        return self

    def _field(self, z: Tensor) -> Tensor:
        z = _centred(z, self._centre)
        field = self._couplings.apply(z) - z * self._couplings.diagonal()
        return field if self._centre is None else field + self._threshold * self._centre

    def _wrap(self, matrix: Tensor) -> Couplings:
        return SymmetricCouplings(matrix) if self.rule.symmetric else FullCouplings(matrix)

    def _header(self) -> dict[str, Any]:
        return {
            "dim": self._dim,
            "count": self._count,
            "rule": self.rule.settings(),
            "auto_centre": self._auto,
            "threshold": self._threshold,
        }

    def _arrays(self) -> dict[str, Any]:
        matrix = self._couplings.dense().cpu().numpy()
        arrays: dict[str, Any] = {"couplings": matrix[np.triu_indices(self._dim)] if self.rule.symmetric else matrix}
        if self._centre is not None:
            arrays["centre"] = self._centre.cpu().numpy()
        if self.rule.needs_patterns:
            arrays["patterns"] = self._packed
        return arrays

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        dim, rule = header["dim"], from_settings(header["rule"])
        expected = (dim * (dim + 1) // 2,) if rule.symmetric else (dim, dim)
        if arrays["couplings"].shape != expected:  # before anything of d x d is made
            raise DimensionError(f"couplings: expected shape {expected}, found {arrays['couplings'].shape}")
        matrix = np.empty((dim, dim), dtype=np.float32)
        if rule.symmetric:
            upper = np.triu_indices(dim)
            matrix[upper] = arrays["couplings"]
            matrix.T[upper] = arrays["couplings"]
        else:
            matrix[:] = arrays["couplings"]
        centre = torch.from_numpy(arrays["centre"]) if "centre" in arrays else None
        network = cls(dim, rule, centre=centre)
        network._auto = bool(header["auto_centre"])
        network._count, network._threshold = int(header["count"]), float(header["threshold"])
        network._couplings = network._wrap(torch.from_numpy(matrix))
        if rule.needs_patterns:
            if arrays["patterns"].shape != (network._count, network._packed.shape[1]):
                raise DimensionError(
                    f"patterns: expected {network._count} packed rows, found {arrays['patterns'].shape}"
                )
            network._packed = arrays["patterns"]
        return network

    def __repr__(self) -> str:
        return f"HopfieldNetwork({self._dim} neurons, {self.rule!r}, {self._count} patterns, {self.nbytes} bytes)"


def _centred(values: Tensor, centre: Tensor | None) -> Tensor:
    return values if centre is None else values - centre


def _gains(couplings: Couplings, patterns: Tensor) -> Tensor:
    """How strongly the couplings hold patterns: `x . Ψ x / x . x`, Ψ with zero diagonal; `(k, d)` -> `(k,)`."""
    fields = couplings.apply(patterns) - patterns * couplings.diagonal()
    return (fields * patterns).sum(1) / patterns.square().sum(1).clamp(min=1e-30)


def _checked_centre(centre: Centre, dim: int, device: torch.device | str) -> Tensor | None:
    if centre is None:
        return None
    if isinstance(centre, str):
        if centre != "auto":
            raise RuleError(f"centre: expected 'auto', None, a number or a vector of {dim}, found {centre!r}")
        return None
    values = torch.as_tensor(centre, dtype=torch.float32, device=device)
    if values.shape not in ((), (dim,)):
        raise DimensionError(f"centre: expected one number or shape ({dim},), found {tuple(values.shape)}")
    if not bool((values.abs() <= 1).all()):
        raise PatternError("centre: expected values in [-1, 1], found others")
    return values


def _auto_centre(patterns: Tensor) -> Tensor | None:
    mean = patterns.mean()
    by_chance = 4 / patterns.numel() ** 0.5  # four standard deviations of the mean of fair coins
    return mean if by_chance < abs(float(mean)) < 1 else None
