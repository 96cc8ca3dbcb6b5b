"""Published experiments, end to end, behind `supsup reproduce`."""

from supsup_models.experiments.names import EXPERIMENT_NAMES

__all__ = ["EXPERIMENT_NAMES"]
