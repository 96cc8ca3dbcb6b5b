"""Priors as JSON, and back."""

import json
from collections.abc import Mapping
from functools import lru_cache

from maskstore._configured import from_config
from maskstore.errors import UnknownPriorError
from maskstore.priors.base import Prior, Uniform
from maskstore.priors.kept_weights import KeptWeights
from maskstore.priors.related import Reference, RunningMean
from maskstore.priors.seeded import SeededScores

_KINDS: tuple[type[Prior], ...] = (Uniform, SeededScores, KeptWeights, Reference, RunningMean)
_PRIORS: dict[str, type[Prior]] = {prior.id: prior for prior in _KINDS}


@lru_cache(maxsize=256)
def prior_to_json(prior: Prior) -> str:
    """Compact JSON of a prior, without the tasks that it refers to."""
    return json.dumps(prior.to_config(), separators=(",", ":"))


def prior_from_config(config: object) -> Prior:
    """The prior that a JSON object describes; UnknownPriorError, or CodecError for fields it does not take."""
    if isinstance(config, Mapping) and isinstance(given := config.get("given"), Mapping) and "given" not in given:
        config = {**config, "given": prior_from_config(given)}  # what is given has none itself: this ends any nesting
    return from_config(config, _PRIORS, "prior", UnknownPriorError)
