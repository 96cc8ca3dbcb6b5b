"""Supermasks in Superposition on seeded, frozen networks (Wortsman et al., NeurIPS 2020).

Importing the package is cheap; torch is imported when the first of these names is used, and without it that is one
ImportError that says what to install.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from supsup_models._requirements import torch_needed
from supsup_models.errors import SupSupError

if TYPE_CHECKING:
    from supsup_models.continual.allocation import AllocationConfig, Allocator
    from supsup_models.continual.learner import IdentityFreeLearner
    from supsup_models.data.streams import TaskStream, open_stream
    from supsup_models.inference.calibration import Calibration
    from supsup_models.inference.evaluate import Evaluation, Inference, evaluate, mask_accuracy
    from supsup_models.inference.infer import Guess, infer_task
    from supsup_models.inference.serving import MaskServer, serve
    from supsup_models.networks import ARCHITECTURES, RESNETS, MaskedModel, MaskedNetwork, resnet_18_20, resnet_50
    from supsup_models.networks.convert import ConvertedModel, convert, export_onnx, mask_spec
    from supsup_models.networks.sparsity import erdos_renyi, layer_densities, mask_densities
    from supsup_models.training.many import train_many
    from supsup_models.training.recipes import EDGE_POPUP, RECIPES, Adam, Recipe, RMSProp
    from supsup_models.training.task import NumberedTask, TrainedTask, train_task

__all__ = [
    "ARCHITECTURES",
    "EDGE_POPUP",
    "RECIPES",
    "RESNETS",
    "Adam",
    "AllocationConfig",
    "Allocator",
    "Calibration",
    "ConvertedModel",
    "Evaluation",
    "Guess",
    "IdentityFreeLearner",
    "Inference",
    "MaskServer",
    "MaskedModel",
    "MaskedNetwork",
    "NumberedTask",
    "RMSProp",
    "Recipe",
    "SupSupError",
    "TaskStream",
    "TrainedTask",
    "convert",
    "erdos_renyi",
    "evaluate",
    "export_onnx",
    "infer_task",
    "layer_densities",
    "mask_accuracy",
    "mask_densities",
    "mask_spec",
    "open_stream",
    "resnet_18_20",
    "resnet_50",
    "serve",
    "train_many",
    "train_task",
]

_HOMES = {
    "supsup_models.continual.allocation": ("AllocationConfig", "Allocator"),
    "supsup_models.inference.calibration": ("Calibration",),
    "supsup_models.networks.convert": ("ConvertedModel", "convert", "export_onnx", "mask_spec"),
    "supsup_models.data.streams": ("TaskStream", "open_stream"),
    "supsup_models.continual.learner": ("IdentityFreeLearner",),
    "supsup_models.inference.infer": ("Guess", "infer_task"),
    "supsup_models.training.many": ("train_many",),
    "supsup_models.networks": ("ARCHITECTURES", "RESNETS", "MaskedModel", "MaskedNetwork", "resnet_18_20", "resnet_50"),
    "supsup_models.training.recipes": ("EDGE_POPUP", "RECIPES", "Adam", "RMSProp", "Recipe"),
    "supsup_models.inference.evaluate": ("Evaluation", "Inference", "evaluate", "mask_accuracy"),
    "supsup_models.inference.serving": ("MaskServer", "serve"),
    "supsup_models.networks.sparsity": ("erdos_renyi", "layer_densities", "mask_densities"),
    "supsup_models.training.task": ("NumberedTask", "TrainedTask", "train_task"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with torch_needed():
        return getattr(import_module(_HOME_OF[name]), name)
