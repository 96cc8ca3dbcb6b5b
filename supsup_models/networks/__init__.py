"""Networks whose weights are frozen and whose masks are arguments."""

from supsup_models.networks.masked import MaskedNetwork
from supsup_models.networks.mlp import ARCHITECTURES, MultilayerPerceptron

__all__ = ["ARCHITECTURES", "MaskedNetwork", "MultilayerPerceptron"]
