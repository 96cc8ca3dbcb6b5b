"""Priors: what encoder and decoder both know about a mask before a single bit is read.

A prior gives every bit of a layer a small integer context; bits of one context share one probability of being set. It
says nothing about the probabilities themselves: a codec measures and stores those.
"""

from maskstore.priors.backbone import Backbone, Places, checked_backbone
from maskstore.priors.base import Contexts, Prior, Uniform
from maskstore.priors.config import prior_from_config, prior_to_json
from maskstore.priors.kept_weights import KeptWeights
from maskstore.priors.related import Reference, Related, RunningMean
from maskstore.priors.seeded import SeededScores

__all__ = [
    "Backbone",
    "Contexts",
    "KeptWeights",
    "Places",
    "Prior",
    "Reference",
    "Related",
    "RunningMean",
    "SeededScores",
    "Uniform",
    "checked_backbone",
    "prior_from_config",
    "prior_to_json",
]
