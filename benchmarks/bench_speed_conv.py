"""Steps of training of conv-4 and ResNet-18-20 against a plain torch loop: `pytest benchmarks/ -k speed_conv -s`.

The plain loop is what one writes by hand for threshold masks (recipe `paper`): modules whose weight is W times a
straight-through threshold of the scores, batch normalisation without parameters, torch's own RMSprop with its loops
over all tensors at once, with values in plain order and with channels last; what counts is the faster one. Contenders
take turns on the same batch; the ratio is of medians in one run.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.bench_speed import medians
from supsup_models import RECIPES, ConvertedModel, conv_4, convert, resnet_18_20
from supsup_models.training.steps import make_step

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "conv-4": (lambda: conv_4(100), (1, 28, 28), 0.8),
    "resnet-18-20": (lambda: resnet_18_20(100), (3, 32, 32), 0.9),
}


class Threshold(torch.autograd.Function):
    """1.0 where a score is at least 0, else 0.0; gradients pass straight through."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Masked(nn.Module):
    """A convolution or a linear layer under the threshold of its scores."""

    def __init__(self, weight: Tensor, scores: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.scores, self.run = weight, nn.Parameter(scores), run

    def forward(self, x: Tensor) -> Tensor:
        masked: Tensor = self.weight * Threshold.apply(self.scores)
        return self.run(x, masked)


def plain_loop(net: nn.Module, model: ConvertedModel, shape: tuple[int, ...], last: bool) -> Callable[..., Tensor]:
    """A step of the plain loop, from the same weights and scores."""
    order = torch.channels_last if last else torch.contiguous_format
    parts = [model.layer_weights(flat) for flat in (model.weights, model.initial_scores(0))]
    both = dict(zip([layer.name for layer in model.spec], zip(*parts, strict=True), strict=True))
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d):
            weight, scores = (one.clone(memory_format=order) for one in both[f"{name}.weight"])
            settings = module.stride, module.padding
            run = lambda x, w, settings=settings: F.conv2d(x, w, None, *settings)  # noqa: E731
            net.set_submodule(name, Masked(weight, scores, run))
        elif isinstance(module, nn.Linear):
            net.set_submodule(name, Masked(*(one.clone() for one in both[f"{name}.weight"]), F.linear))
        elif isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    net.train()
    optimiser = torch.optim.RMSprop([p for p in net.parameters() if p.requires_grad], lr=1e-4, foreach=True)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(net(images.view(-1, *shape).contiguous(memory_format=order)), labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_of_converted_networks(name: str, full: bool) -> None:
    make, shape, target = NETWORKS[name]
    recipe = RECIPES["paper"]
    model = convert(make(), recipe=recipe, seed=0, classes=10, image_shape=shape)
    images, labels = torch.randn(128, int(np.prod(shape))), torch.randint(0, 10, (128,))
    ours = make_step(model, model.initial_scores(0), recipe, steps=100)
    loops = {f"plain, {order}": plain_loop(make(), model, shape, order == "last") for order in ("first", "last")}
    first = float(ours.step(images, labels, 1e-4))
    for step in loops.values():
        assert float(step(images, labels)) == pytest.approx(first, rel=1e-3)
    ways: dict[str, Callable[[], object]] = {"ours": lambda: ours.step(images, labels, 1e-4)}
    ways |= {way: lambda step=step: step(images, labels) for way, step in loops.items()}  # type: ignore[misc]
    seconds = medians(ways, rounds=(40 if name == "conv-4" else 10) if full else 2)
    best = min(seconds[way] for way in loops)
    print(
        f"\nspeed_conv, {name}, {torch.get_num_threads()} threads: "
        + ", ".join(f"{way} {1e3 * taken:.0f} ms" for way, taken in seconds.items())
        + f" a step; ratio to the best {seconds['ours'] / best:.2f} (target <= {target})"
    )
    assert seconds["ours"] < 1.5 * best
