"""What a learning rule is: how patterns become couplings."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar

from torch import Tensor

from hopfield.errors import ForgetError


class Rule(ABC):
    """A learning rule; a frozen dataclass whose fields are its settings.

    A rule works on the whole matrix Ψ with its diagonal; memories apply Ψ with the diagonal set to zero. Patterns come
    as float tensors `(k, d)`, minus the memory's centre. Rules with `needs_patterns` learn from all patterns each time,
    so the memory keeps those (packed, one bit a neuron).

    Examples:
        >>> from hopfield import Hebbian, PseudoInverse, Rule
        >>> rules: list[Rule] = [Hebbian(), PseudoInverse()]
        >>> [round(rule.limit(dim=512)) for rule in rules]  # patterns that 512 neurons hold
        [41, 512]
        >>> Hebbian().settings()
        {'id': 'hebbian'}
    """

    id: ClassVar[str]
    needs_patterns: ClassVar[bool] = False
    threshold: ClassVar[float | None] = None
    """θ of a memory with a centre, where the rule learns with one; None where it is to follow from the couplings."""

    @property
    def symmetric(self) -> bool:
        """Whether Ψ is symmetric, so that an energy exists; it is, unless a rule says otherwise."""
        return True

    @abstractmethod
    def learn(self, matrix: Tensor, new: Tensor, earlier: Tensor | None, centre: Tensor | None) -> Tensor:
        """Couplings `(d, d)` after storing `new` `(k, d)` on top of `matrix`; `matrix` may be changed in place.

        `earlier` are the patterns stored before, `(n, d)`, for rules with `needs_patterns`, else None; `centre` is what
        was subtracted from all of them, `()` or `(d,)`, or None.
        """

    def unlearn(self, matrix: Tensor, old: Tensor) -> Tensor:
        """Couplings after taking stored patterns `old` `(k, d)` out again; ForgetError for a rule that cannot."""
        raise ForgetError(f"forget: expected a rule that can forget (Hebbian, or a dual memory), found {self.id!r}")

    @abstractmethod
    def limit(self, dim: int) -> float:
        """How many random patterns d neurons hold by the rule's theory; the source is in the class's text."""

    def settings(self) -> dict[str, Any]:
        """JSON-able `{"id": ..., field: value, ...}`; `rules.from_settings` reads it."""
        return {"id": self.id, **asdict(self)}  # type: ignore[call-overload]
