"""Methods of task inference that are known not to work in a network: refused, or warned of.

Layers that normalise with running statistics have none that fit a superposition of masks. One-shot, binary and gradient
inference then normalise with the statistics of the batch, and what they find is close to chance. A single mask has
statistics of its own, so exhaustive inference works. Sparse masks are trained for a superposition whose statistics the
seed gives; all methods work with them.
"""

import warnings

from supsup_models.errors import BatchStatisticsError, InferenceError, MethodWarning, MissingStatisticsError
from supsup_models.networks import MaskedModel, TaskExtras


def check_method(
    model: MaskedModel, method: str, names: tuple[str, ...], extras: TaskExtras, *, single_masks: bool, alone: bool
) -> None:
    """Refuse a method that has no answer in a network of running statistics, and warn of one whose answers are poor.

    Args:
        model: The network.
        method: The method's name.
        names: The masks' names.
        extras: The masks' normalisation statistics, by name.
        single_masks: Whether the method runs each mask by itself.
        alone: Whether each image is inferred by itself, so that there is no batch to take statistics of.

    Raises:
        BatchStatisticsError: The network needs the statistics of a batch, and there is none.
    """
    if model.own_parameters:
        first = model.own_parameters[0]
        if not single_masks:
            raise InferenceError(
                f"{method} inference: expected masks that share all else, found tasks with a {first!r} of their own; "
                '`method="exhaustive"` runs each task by itself'
            )
        bare = next((name for name in names if not extras.get(name)), None)
        if bare is not None and model.needs_extras:
            raise MissingStatisticsError(
                f"{method} inference: expected the extras of every mask, found none for {bare!r:.80}; training gives "
                "them, and `bank.extras(name)` has them"
            )
        return
    if not model.needs_extras:  # kept weights come with statistics, which serve where a task has none
        return
    if model.densities is not None and not single_masks:  # a mixture of sparse masks has statistics of its own
        return
    statistic = next(iter(model.initial_statistics()))
    if not single_masks:
        if alone:
            raise BatchStatisticsError(
                f"{method} inference of a single image: expected a network that treats each image by itself, found "
                f'batch statistics in {statistic!r}; `method="exhaustive"` finds the task of a single image'
            )
        warnings.warn(
            f"{method} inference: expected a network that treats each image by itself, found batch statistics in "
            f'{statistic!r}; answers are hardly better than chance, `method="exhaustive"` finds tasks',
            MethodWarning,
            stacklevel=5,
        )
        return
    lacking = next((name for name in names if not extras.get(name)), None)
    if lacking is None:
        return
    missing = (
        f"{method} inference: expected the normalisation statistics of every mask (`extras`), found batch statistics "
        f"in {statistic!r} and none given for {lacking!r:.80}"
    )
    if alone:
        raise BatchStatisticsError(f"{missing}; training gives them, and `bank.extras(name)` has them")
    warnings.warn(f"{missing}; those of the batch are used", MethodWarning, stacklevel=5)
