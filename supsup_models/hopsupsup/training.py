"""Training one neuron mask: straight-through scores, a threshold at zero."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstore import Mask
from maskstore.philox import Role, random_permutation
from supsup_models.data import LabelledImages
from supsup_models.hopsupsup.network import NeuronMaskedNetwork
from supsup_models.networks import entropy, threshold


@dataclass(frozen=True)
class CueTraining:
    """What makes a neuron mask one that the entropy's gradient points to.

    The gradient of the entropy H by the soft mask, at the undecided mask (one half everywhere), depends on a task's
    images and on the frozen network alone, so it is known before the mask is trained. The part that all data have in
    common is taken from the same images with their pixels shuffled, and removed. Training then adds
    `weight * softplus(margin - z)`, with z the overlap of the mask (as -1, +1) and the rest of the gradient, in
    standard deviations of the overlap with a random mask. Masks are trained along the *rise* of H: at the undecided
    mask the network is sure and wrong, and good masks lack the neurons that make it so.
    """

    weight: float = 0.05
    margin: float = 10.0
    """The z from which on the mask gains little: half of it is left when the cue is read on one batch of 128."""
    batches: int = 8
    """Batches that each of the two gradients is read from."""
    temperature: float = 4.0
    """Of the softmax in H."""


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
    cue: CueTraining | None = None
    """How the mask is trained to be found from the entropy's gradient; None leaves that out."""


def train_neuron_mask(
    model: NeuronMaskedNetwork, split: LabelledImages, settings: NeuronTraining = NeuronTraining(), *, seed: int = 0
) -> Mask:
    """One task's mask, from its labelled images; `seed` fixes the order of the batches."""
    labels = torch.as_tensor(split.labels, dtype=torch.int64)
    total = settings.batches or len(labels) // settings.batch
    scores = torch.zeros(model.spec.bits, dtype=torch.float32, requires_grad=True)
    optimiser = torch.optim.SGD([scores], lr=settings.rate, momentum=settings.momentum)
    cue = None if settings.cue is None else cue_direction(model, split, settings.cue, batch=settings.batch, seed=seed)
    for step in range(total):
        epoch, place = divmod(step, max(1, len(labels) // settings.batch))
        if place == 0:
            order = torch.from_numpy(random_permutation(seed, Role.BATCH_ORDER, len(labels), stream=epoch))
        chosen = order[place * settings.batch :][: settings.batch]
        if settings.cosine:
            angle = torch.tensor(torch.pi * step / total, dtype=torch.float32)
            optimiser.param_groups[0]["lr"] = settings.rate * 0.5 * (1 + torch.cos(angle))
        images = torch.as_tensor(split.images(chosen), dtype=torch.float32)
        mask = threshold(scores)
        loss = F.cross_entropy(model(images, mask), labels[chosen])
        if settings.cue is not None and cue is not None:
            loss = loss + settings.cue.weight * F.softplus(settings.cue.margin - cue @ (2 * mask - 1))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return Mask.from_flat(threshold(scores.detach()).bool().numpy(), model.spec)


def cue_direction(
    model: NeuronMaskedNetwork, split: LabelledImages, settings: CueTraining, *, batch: int, seed: int
) -> Tensor:
    """Where the entropy of a task's images rises at the undecided mask, `(spec.bits,)` of length 1.

    No label is read. What shuffled images have in common with them is taken out.
    """
    undecided = torch.full((model.spec.bits,), 0.5)
    count = len(split.labels)
    order = torch.from_numpy(random_permutation(seed, Role.SAMPLE, count))[: settings.batches * batch]
    own, common = torch.zeros_like(undecided), torch.zeros_like(undecided)
    for index, chosen in enumerate(torch.split(order, batch)):
        images = torch.as_tensor(split.images(chosen), dtype=torch.float32)
        pixels = torch.from_numpy(random_permutation(seed, Role.SAMPLE, images.shape[1], stream=index + 1))
        for total, shown in ((own, images), (common, images[:, pixels])):
            mask = undecided.clone().requires_grad_()
            cost = entropy(model(shown, mask) / settings.temperature).mean()
            (gradient,) = torch.autograd.grad(cost, mask)
            total += F.normalize(gradient, dim=0)
    common = F.normalize(common, dim=0)
    return F.normalize(own - (own @ common) * common, dim=0)


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
