"""Networks whose weights are frozen and whose masks are arguments, and plain ones to be converted."""

from supsup_models.networks.base import MaskedModel
from supsup_models.networks.masked import MaskedNetwork
from supsup_models.networks.mlp import ARCHITECTURES, MultilayerPerceptron
from supsup_models.networks.resnet import RESNETS, resnet_18_20, resnet_50

__all__ = [
    "ARCHITECTURES",
    "RESNETS",
    "MaskedModel",
    "MaskedNetwork",
    "MultilayerPerceptron",
    "resnet_18_20",
    "resnet_50",
]
