"""Methods that supermasks in superposition are compared with, behind one interface."""

from supsup_models.experiments.baselines.base import Baseline, BaselineConfig
from supsup_models.experiments.baselines.batche import BatchE
from supsup_models.experiments.baselines.bounds import LowerBound, UpperBound
from supsup_models.experiments.baselines.ewc import OnlineEWC
from supsup_models.experiments.baselines.psp import PSP
from supsup_models.experiments.baselines.separate_heads import SeparateHeads
from supsup_models.experiments.baselines.si import SynapticIntelligence

__all__ = [
    "PSP",
    "Baseline",
    "BaselineConfig",
    "BatchE",
    "LowerBound",
    "OnlineEWC",
    "SeparateHeads",
    "SynapticIntelligence",
    "UpperBound",
]
