"""Which step trains a recipe: the fastest that can, or the one asked for, or an error that says why it cannot."""

from typing import get_args

import torch
from torch import Tensor

from supsup_models._names import check
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedModel, MaskedNetwork
from supsup_models.training.optimisers import RMSProp
from supsup_models.training.recipes import Recipe
from supsup_models.training.steps.autograd import AutogradStep
from supsup_models.training.steps.base import Step, Stepping
from supsup_models.training.steps.definition import DefinedStep
from supsup_models.training.steps.fused import FusedStep
from supsup_models.training.steps.kept import KeptStep
from supsup_models.training.steps.rmsprop_kernel import has_bfloat16
from supsup_models.training.steps.sparse import SparseStep


def fastest(model: MaskedModel, recipe: Recipe) -> Stepping:
    """The fastest stepping that can train this recipe on this network, here.

    Steps by hand are for a `MaskedNetwork` with RMSProp or sparse masks; they are in bfloat16 for float32 networks on
    processors with instructions for it. All else is autograd's.
    """
    if not isinstance(model, MaskedNetwork) or (recipe.sparse is None and not isinstance(recipe.optimiser, RMSProp)):
        return "autograd"
    here = model.device.type == "cpu" and model.weights.dtype == torch.float32
    return "bfloat16" if here and has_bfloat16() else "fused"


def make_step(
    model: MaskedModel,
    scores: Tensor,
    recipe: Recipe,
    *,
    stepping: Stepping | None = None,
    task: int = 0,
    steps: int = 1,
    classes: int | None = None,
) -> Step:
    """A step of a recipe that starts from a copy of `scores`.

    Args:
        model: the network whose mask is trained.
        scores: flat `(spec.bits,)`, on the network's device.
        recipe: the optimiser, and for sparse masks their densities and prices.
        stepping: "fused", "bfloat16" or "autograd"; None takes the fastest that can do it.
        task: the task's number, which with sparse masks seeds the shuffled images.
        steps: how many steps there will be, along which sparse masks reach their densities.
        classes: those of the task, where it has a head of its own; None stands for as many as the network allows.

    Raises:
        UnknownNameError: for another stepping.
        NetworkError: for a stepping that cannot train this recipe on this network.
    """
    stepping = fastest(model, recipe) if stepping is None else stepping
    check("stepping", stepping, get_args(Stepping))
    half = stepping == "bfloat16"
    if recipe.kept is not None:
        return KeptStep(model, recipe, classes=classes)
    if recipe.sparse is not None:
        if stepping == "autograd":
            return DefinedStep(model, scores, recipe, task=task, steps=steps)
        if not isinstance(model, MaskedNetwork):
            raise NetworkError(f"stepping {stepping}: expected a MaskedNetwork, found {type(model).__name__}")
        return SparseStep(model, scores, recipe, task=task, steps=steps, half=half)
    if stepping == "autograd":
        return AutogradStep(model, scores, recipe.optimiser, classes=classes)
    if not isinstance(model, MaskedNetwork) or not isinstance(recipe.optimiser, RMSProp):
        raise NetworkError(
            f"stepping {stepping}: expected a MaskedNetwork and RMSProp, found {type(model).__name__} and "
            f"{type(recipe.optimiser).__name__}"
        )
    return FusedStep(model, scores, recipe.optimiser, half=half)
