"""`HopfieldNetwork`: the dense memory, a matrix Ψ over d neurons."""

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import DeviceError, DimensionError, ForgetError, RuleError
from hopfield.memories import storage
from hopfield.memories.couplings import Couplings, FullCouplings, SymmetricCouplings
from hopfield.memories.quadratic import Centring, QuadraticMemory, as_centre, restored_centring
from hopfield.rules import Hebbian, Rule, from_settings
from maskstore.torch import as_device

CentreSetting = float | Tensor | Literal["auto"] | None


@storage.register
class HopfieldNetwork(QuadraticMemory):
    """A dense Hopfield network: `E(z) = -½ (z - c)ᵀ Ψ (z - c) - θ cᵀ z`, field `h = Ψ (z - c) + θ c`, zero diagonal.

    `rule` says how patterns become Ψ, `centre` what is subtracted from patterns and states: nothing (`None`), one
    number or a vector `(d,)` in [-1, 1], or `"auto"`: the activity of the first patterns stored, where that differs
    from zero by more than chance allows (Tsodyks and Feigel'man 1988), else nothing. The threshold θ is 0 without a
    centre. With one it is what the rule learns its couplings with (the perceptron), or else the mean gain of the
    patterns as they were stored, where `Ψ (z - c)` is about `θ (z - c)`: the field of a pattern is then about θ z, so
    that rare and frequent spins are held alike. Ψ is float32, and half of it is kept where the rule makes it symmetric.

    Args:
        dim: Number of neurons d.
        rule: How patterns become Ψ; `Hebbian()` by default.
        centre: What is subtracted; see above.
        device: Where Ψ lies.

    Raises:
        DimensionError: `dim` is no whole number of at least 1, or the centre has another length.
        RuleError: `rule` is no rule, or `centre` none of the above.
        PatternError: The centre has values outside [-1, 1].
        DeviceError: Torch cannot use the device here.

    Examples:
        >>> import torch
        >>> from hopfield import HopfieldNetwork, PseudoInverse, patterns
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.random_patterns(30, 128, generator)
        >>> network = HopfieldNetwork(128, PseudoInverse())
        >>> network.store(stored)
        >>> cues = patterns.flip(stored, 0.1, generator)  # a tenth of the bits are wrong
        >>> torch.equal(network.recall(cues), stored)
        True
        >>> bool((network.energy(stored) < network.energy(cues)).all())
        True
    """

    def __init__(
        self,
        dim: int,
        rule: Rule | None = None,
        *,
        centre: CentreSetting = "auto",
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(dim, int | np.integer) or isinstance(dim, bool) or dim < 1:
            raise DimensionError(f"HopfieldNetwork: expected a whole number of neurons, at least one, found {dim!r}")
        if rule is not None and not isinstance(rule, Rule):
            raise RuleError(f"HopfieldNetwork: expected a rule such as Hebbian(), found {rule!r:.60}")
        self.rule: Rule = rule or Hebbian()
        self._auto = isinstance(centre, str) and centre == "auto"
        where = as_device(device, DeviceError)
        try:
            couplings = self._wrap(torch.zeros(int(dim), int(dim), device=where, dtype=torch.float32))
        except (RuntimeError, TypeError):  # what torch raises for more memory, and for sizes, than there are
            raise DimensionError(
                f"HopfieldNetwork: expected memory for {dim} x {dim} couplings, found too little; DualMemory needs none"
            ) from None
        self._packed: np.ndarray = np.zeros((0, (int(dim) + 63) // 64), dtype=np.uint64)
        given = None if centre is None or self._auto else as_centre(centre, dim, where)
        super().__init__(int(dim), couplings, Centring(given), 0)

    @property
    def nbytes(self) -> int:
        """Bytes of the couplings, of a centre, and of the packed patterns where the rule needs them."""
        return super().nbytes + self._packed.nbytes

    @property
    def limit(self) -> float:
        """Patterns the rule holds by its theory."""
        return self.rule.limit(self.dim)

    def forget(self, patterns: Any) -> None:
        """Take stored patterns out again.

        The memory cannot check that it holds them: taking out a pattern that was never stored leaves its negative.

        Args:
            patterns: As in `store`.

        Raises:
            ForgetError: The rule cannot forget, or there are more patterns than were stored.
        """
        old = pt.as_patterns(patterns, self.dim, device=self.device)
        if len(old) > self._count:
            raise ForgetError(f"forget: expected at most the {self._count} patterns stored, found {len(old)}")
        self._couplings = self._wrap(self.rule.unlearn(self._couplings.dense(), self._centring.shift(old)))
        self._count -= len(old)

    def _learn(self, new: Tensor) -> Callable[[], None]:
        after = self._count + len(new)
        centre = _auto_centre(new) if self._auto and not self._count else self.centre
        centring = Centring(centre, self.threshold)
        earlier = None
        if self.rule.needs_patterns:
            earlier = centring.shift(pt.unpack(self._packed, self.dim).to(self.device))
        couplings = self._wrap(self.rule.learn(self._couplings.dense(), centring.shift(new), earlier, centre))
        if centre is not None:
            threshold = self.rule.threshold
            if threshold is None:
                gain = _gains(couplings, centring.shift(new)).sum().item()
                threshold = (self._count * self.threshold + gain) / after
            centring = Centring(centre, threshold)
        packed = np.concatenate([self._packed, pt.pack(new)]) if self.rule.needs_patterns else self._packed

        def commit() -> None:
            self._couplings, self._centring = couplings, centring
            self._count, self._packed = after, packed

        return commit

    def _wrap(self, matrix: Tensor) -> Couplings:
        return SymmetricCouplings(matrix) if self.rule.symmetric else FullCouplings(matrix)

    def _header(self) -> dict[str, Any]:
        return {
            "dim": self.dim,
            "count": self._count,
            "rule": self.rule.settings(),
            "auto_centre": self._auto,
            "threshold": self.threshold,
        }

    def _arrays(self) -> dict[str, Any]:
        matrix = self._couplings.dense().cpu().numpy()
        arrays = {"couplings": matrix[np.triu_indices(self.dim)] if self.symmetric else matrix}
        packed = {"patterns": self._packed} if self.rule.needs_patterns else {}
        return arrays | self._centre_array() | packed

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        dim, count = storage.natural(header, "dim"), storage.natural(header, "count")
        rule = from_settings(header["rule"])
        expected = (dim * (dim + 1) // 2,) if rule.symmetric else (dim, dim)
        if arrays["couplings"].shape != expected:  # before anything of d x d is made
            raise DimensionError(f"couplings: expected shape {expected}, found {arrays['couplings'].shape}")
        matrix = arrays["couplings"].astype(np.float32)
        if rule.symmetric:
            upper, matrix = matrix, np.zeros((dim, dim), dtype=np.float32)
            matrix[np.triu_indices(dim)] = upper  # all that `SymmetricCouplings` reads
        network = cls(dim, rule, centre=None)
        network._centring = restored_centring(header, arrays, dim)
        network._auto, network._count = bool(header["auto_centre"]), count
        network._couplings = network._wrap(torch.from_numpy(matrix))
        if rule.needs_patterns:
            if arrays["patterns"].shape != (count, network._packed.shape[1]):
                raise DimensionError(f"patterns: expected {count} packed rows, found {arrays['patterns'].shape}")
            network._packed = arrays["patterns"]
        return network

    def __repr__(self) -> str:
        return f"HopfieldNetwork({self.dim} neurons, {self.rule!r}, {self._count} patterns, {self.nbytes} bytes)"


def _gains(couplings: Couplings, patterns: Tensor) -> Tensor:
    """How strongly the couplings hold patterns: `x . Ψ x / x . x`, Ψ with zero diagonal; `(k, d)` -> `(k,)`."""
    fields = couplings.apply(patterns) - patterns * couplings.diagonal()
    return (fields * patterns).sum(1) / patterns.square().sum(1).clamp(min=1e-30)


def _auto_centre(patterns: Tensor) -> Tensor | None:
    mean = patterns.mean()
    by_chance = 4 / patterns.numel() ** 0.5  # four standard deviations of the mean of fair coins
    return mean if by_chance < abs(float(mean)) < 1 else None
