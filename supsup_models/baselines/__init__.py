"""Methods that supermasks in superposition are compared with, behind one interface."""

from supsup_models.baselines.batche import BatchE
from supsup_models.baselines.bounds import LowerBound, UpperBound
from supsup_models.baselines.ewc import OnlineEWC
from supsup_models.baselines.interface import Baseline, BaselineConfig
from supsup_models.baselines.psp import PSP
from supsup_models.baselines.separate_heads import SeparateHeads
from supsup_models.baselines.si import SynapticIntelligence

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
