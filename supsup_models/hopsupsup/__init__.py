"""HopSupSup: masks on neurons or weights, given back by a Hopfield memory from unlabelled images."""

from supsup_models.hopsupsup.data import unlabelled_batches
from supsup_models.hopsupsup.network import NeuronMaskedNetwork
from supsup_models.hopsupsup.recover import (
    TaskRecovery,
    entropy_on,
    judge,
    mean_state,
    memory_per_layer,
    nearest_mask,
    recover_mask,
    weight_forward,
)
from supsup_models.hopsupsup.training import NeuronTraining, accuracy, train_neuron_mask

__all__ = [
    "NeuronMaskedNetwork",
    "NeuronTraining",
    "TaskRecovery",
    "accuracy",
    "entropy_on",
    "judge",
    "mean_state",
    "memory_per_layer",
    "nearest_mask",
    "recover_mask",
    "train_neuron_mask",
    "unlabelled_batches",
    "weight_forward",
]
