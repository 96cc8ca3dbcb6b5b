"""Training one neuron mask: straight-through scores, a threshold at zero."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstore import Mask
from maskstore.philox import Role, random_permutation
from supsup_models.data import LabelledImages
from supsup_models.hopsupsup.network import NeuronMaskedNetwork
from supsup_models.networks import threshold


@dataclass(frozen=True)
class NeuronTraining:
    """How a neuron mask is trained; the defaults are those of the paper's code (one epoch, scores from zero)."""

    batches: int | None = None
    """Number of batches; None is one epoch."""
    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    cosine: bool = False
    """Whether the rate decays to zero along a cosine."""


def train_neuron_mask(
    model: NeuronMaskedNetwork, split: LabelledImages, settings: NeuronTraining = NeuronTraining(), *, seed: int = 0
) -> Mask:
    """One task's mask, from its labelled images; `seed` fixes the order of the batches."""
    labels = torch.as_tensor(split.labels, dtype=torch.int64)
    total = settings.batches or len(labels) // settings.batch
    scores = torch.zeros(model.spec.bits, dtype=torch.float32, requires_grad=True)
    optimiser = torch.optim.SGD([scores], lr=settings.rate, momentum=settings.momentum)
    for step in range(total):
        epoch, place = divmod(step, max(1, len(labels) // settings.batch))
        if place == 0:
            order = torch.from_numpy(random_permutation(seed, Role.BATCH_ORDER, len(labels), stream=epoch))
        chosen = order[place * settings.batch :][: settings.batch]
        if settings.cosine:
            angle = torch.tensor(torch.pi * step / total, dtype=torch.float32)
            optimiser.param_groups[0]["lr"] = settings.rate * 0.5 * (1 + torch.cos(angle))
        images = torch.as_tensor(split.images(chosen), dtype=torch.float32)
        loss = F.cross_entropy(model(images, threshold(scores)), labels[chosen])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return Mask.from_flat(threshold(scores.detach()).bool().numpy(), model.spec)


@torch.no_grad()
def accuracy(model: NeuronMaskedNetwork, split: LabelledImages, mask: Mask | Tensor, *, batch: int = 256) -> float:
    """Fraction of a split's images named right under a mask.

    The normalisation takes its statistics from batches of about `batch` images, as in training. The order is shuffled,
    always alike, because a batch of one class would have statistics of its own.
    """
    labels = torch.as_tensor(split.labels, dtype=torch.int64)
    order = torch.from_numpy(random_permutation(0, Role.SAMPLE, len(labels)))
    right = 0
    pieces = max(1, len(labels) // batch)
    for chosen in torch.tensor_split(order, pieces):  # nearly equal pieces, so that no batch is tiny
        logits = model(torch.as_tensor(split.images(chosen), dtype=torch.float32), mask)
        right += int((logits.argmax(1) == labels[chosen]).sum())
    return right / len(labels)
