"""Learning rules: how patterns become couplings. One rule a file, all listed in `RULES`."""

from typing import Any

from hopfield.errors import RuleError
from hopfield.rules.base import Rule
from hopfield.rules.hebbian import Hebbian
from hopfield.rules.perceptron import Perceptron
from hopfield.rules.probability_flow import ProbabilityFlow
from hopfield.rules.pseudo_inverse import NEW_DIRECTION, PseudoInverse
from hopfield.rules.storkey import Storkey

RULES: dict[str, type[Rule]] = {
    rule.id: rule for rule in (Hebbian, Storkey, PseudoInverse, Perceptron, ProbabilityFlow)
}


def from_settings(settings: dict[str, Any]) -> Rule:
    """The rule that `Rule.settings` described; RuleError for an unknown id or wrong fields."""
    fields = dict(settings)
    rule = RULES.get(fields.pop("id", None))
    if rule is None:
        raise RuleError(f"rule: expected one of {', '.join(RULES)}, found {settings.get('id')!r}")
    try:
        return rule(**fields)
    except TypeError as error:
        raise RuleError(f"rule {rule.id!r}: expected its own fields, found {fields}") from error


__all__ = [
    "NEW_DIRECTION",
    "RULES",
    "Hebbian",
    "Perceptron",
    "ProbabilityFlow",
    "PseudoInverse",
    "Rule",
    "Storkey",
    "from_settings",
]
