"""The figures of a report, in the order of its page."""

FIGURES = {
    "accuracy": ("accuracy",),
    "training": ("training-loss", "training-accuracy"),
    "storage": ("storage",),
    "growth": ("growth",),
    "pareto": ("pareto",),
    "confusion": ("confusion",),
    "sureness": ("sureness-margins", "sureness-calibration"),
    "overlap": ("overlap",),
    "recovery": ("recovery-0", "recovery-1", "recovery-2"),
    "density": ("density",),
}
"""By the name of a figure: its pictures, for a run of three tasks with everything that a report can show."""


def names(*, without: tuple[str, ...] = ()) -> list[str]:
    """The figures' names."""
    return [name for name in FIGURES if name not in without]


def pictures(*, without: tuple[str, ...] = ()) -> list[str]:
    """The pictures' names."""
    return [picture for name in names(without=without) for picture in FIGURES[name]]
