"""Modules that act on their weights, share them, or reach each other in odd ways: as in plain torch, or refused."""

import functools
import warnings
import weakref
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from supsup_models import convert, mask_spec
from supsup_models.errors import ConversionError, SharedStateWarning

TOKENS = torch.tensor([[0, 1, 2], [3, 0, 1]])
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def answers(module: nn.Module, inputs: Tensor, **options: Any) -> Tensor:
    """A converted module's answers under some mask, after a check that they are those of the exported module."""
    model = convert(module, **options)
    mask = model.mask_of(model.initial_scores(0) + 0.01)
    found: Tensor = model(inputs, mask)
    assert torch.equal(model.export(mask)(inputs), found)
    assert torch.equal(model(inputs, mask), found)  # the call has changed nothing
    return found


# -- embeddings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["signed-constant", "kaiming", "keep"])
@pytest.mark.parametrize("padding", [0, 3, -1])
def test_padding_rows_of_masked_embeddings_are_zero(weights: str, padding: int) -> None:
    found = answers(nn.Embedding(4, 6, padding_idx=padding), TOKENS, embeddings=True, weights=weights)
    assert not found[padding % 4 == TOKENS].any()
    assert found[padding % 4 != TOKENS].any()


def test_sparse_embeddings_train_with_the_gradient_of_dense_ones() -> None:
    def gradient(**options: Any) -> Tensor:
        model = convert(nn.Embedding(5, 4, **options), embeddings=True)
        scores = model.initial_scores(0).requires_grad_()
        model.run_with(TOKENS, model.effective_weights(scores)).square().sum().backward()
        assert scores.grad is not None
        return scores.grad

    assert torch.equal(gradient(sparse=True), gradient())
    assert torch.equal(gradient(sparse=True, scale_grad_by_freq=True), gradient(scale_grad_by_freq=True))


@pytest.mark.parametrize("kind", [nn.Embedding, functools.partial(nn.EmbeddingBag, mode="sum")])
def test_norms_that_are_cut_in_every_call_are_cut_once(kind: Callable[..., nn.Module]) -> None:
    plain = nn.Sequential(kind(5, 4, max_norm=0.3), nn.Linear(4, 2))
    model = convert(plain)
    mask = model.mask_of(model.initial_scores(0))
    before = deepcopy(model.state_dict())
    found = model(TOKENS, mask)
    assert torch.equal(F.linear(deepcopy(plain)[0](TOKENS), model.export(mask)[1].weight), found)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- weights that are computed, shared, quantised -------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized(name: str) -> nn.Module:
    module = nn.Linear(6, 6)
    parametrize.register_parametrization(module, name, Doubled())
    return module


def old(norm: str, *options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return getattr(nn.utils, norm)(nn.Linear(6, 6), *options)


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.nn.qat.Linear(6, 6, qconfig=torch.ao.quantization.get_default_qat_qconfig())


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.Linear(6, 6), nn.LazyBatchNorm1d())


class Pair(nn.Module):
    """Two layers, and a forward and attributes of a test's own."""

    def __init__(self, set_up: Callable[["Pair"], object], forward: Callable[["Pair", Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.run = nn.Linear(6, 6), nn.Linear(6, 6), forward
        set_up(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)

    def hook(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return self.b(output)


class Helper:
    def __init__(self, net: nn.Module) -> None:
        self.net = net


def tie(net: Pair) -> None:
    net.b.weight = nn.Parameter(net.a.weight.data)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(6, 6)), "computed from others"),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(6, 6)), "computed from others"),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(6, 6)), "computed from others"),
    "old weight norm": (lambda: old("weight_norm"), "computed from others"),
    "old spectral norm": (lambda: old("spectral_norm"), "computed from others"),
    "old weight norm of a bias": (lambda: old("weight_norm", "bias", 0), "can be copied and frozen"),
    "parametrised weight": (lambda: parametrized("weight"), "computed from others"),
    "parametrised bias": (lambda: parametrized("bias"), "computed from others"),
    "pruned": (lambda: prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.5), "computed from others"),
    "quantisation-aware": (quantised, "quantised Linear"),
    "a lazy part": (lazy, "lazy"),
    "memory shared": (lambda: Pair(tie, lambda net, x: net.b(x)), "memory of the masked"),
    "a view as a buffer": (
        lambda: Pair(lambda net: net.register_buffer("t", net.a.weight.detach().t()), lambda net, x: x @ net.t),
        "memory of the masked 'a.weight'",
    ),
    "a weight in a list": (
        lambda: Pair(lambda net: setattr(net, "ws", [net.a.weight]), lambda net, x: F.linear(x, net.ws[0])),
        "only as parameters of modules",
    ),
    "a closure": (lambda: Pair(lambda net: setattr(net, "f", lambda x: net.a(x)), lambda net, x: net.f(x)), "reached"),
    "a closure as a hook": (
        lambda: Pair(
            lambda net: net.a.register_forward_hook(lambda module, inputs, output: net.b(output)),
            lambda net, x: net.a(x),
        ),
        "reached as attributes",
    ),
    "a weak reference": (
        lambda: Pair(lambda net: setattr(net, "f", weakref.ref(net.a)), lambda net, x: net.f()(x)),
        "found a Linear in a function, weak reference",
    ),
    "an embedding of bounded norm": (lambda: nn.Embedding(4, 6, max_norm=1.0), "without max_norm"),
    "an RNN's weight": (
        lambda: nn.ModuleList([nn.Linear(6, 6), rnn_of(nn.Linear(6, 6))]),
        "expected a weight of its own",
    ),
}


def rnn_of(layer: nn.Linear) -> nn.Module:
    rnn = nn.RNN(6, 6)
    rnn.weight_ih_l0 = layer.weight
    return nn.ModuleList([layer, rnn])


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_mask_cannot_follow_is_refused(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(ConversionError, match=message) as found:
        convert(build(), embeddings=True)
    assert "\n" not in str(found.value)


TAKEN: dict[str, Callable[[], nn.Module]] = {
    "a list of modules": lambda: Pair(
        lambda net: net.__dict__.update(layers=[net.a, {"b": (net.b,)}]),
        lambda net, x: net.layers[1]["b"][0](net.layers[0](x)),
    ),
    "a method": lambda: Pair(lambda net: setattr(net, "f", net.a.forward), lambda net, x: net.f(x)),
    "a partial": lambda: Pair(lambda net: setattr(net, "f", functools.partial(net.b)), lambda net, x: net.f(x)),
    "an object": lambda: Pair(lambda net: setattr(net, "h", Helper(net)), lambda net, x: net.h.net.b(x)),
    "a parent": lambda: Pair(lambda net: net.a.__dict__.update(parent=net), lambda net, x: net.a.parent.b(net.a(x))),
    "a method as a hook": lambda: Pair(lambda net: net.a.register_forward_hook(net.hook), lambda net, x: net.a(x)),
    "a transposed weight": lambda: Pair(lambda net: None, lambda net, x: F.linear(x, net.a.weight.t(), net.b.bias)),
    "padding by reflection": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3, padding=2, padding_mode="reflect"), nn.Flatten()
    ),
    "frozen spectral norm": lambda: nn.Sequential(
        nn.Linear(6, 6), nn.Unflatten(1, (6, 1)), parametrizations.spectral_norm(nn.ConvTranspose1d(6, 2, 1))
    ),
    "a frozen RNN": lambda: nn.Sequential(nn.Linear(6, 6), First(nn.LSTM(6, 3))),
    "torch.fx": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 6), nn.ReLU())),
}


class First(nn.Module):
    """The first of a module's outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[0]


@pytest.mark.parametrize("weights", ["signed-constant", "keep"])
@pytest.mark.parametrize("name", TAKEN)
def test_what_plain_torch_takes_is_taken(name: str, weights: str) -> None:
    module = TAKEN[name]().eval()
    answers(module, X, weights=weights)
    if weights == "keep":
        model = convert(module, weights=weights)
        assert torch.equal(model(X, model.mask_of(model.initial_scores(0))), module(X))


# -- ties ---------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A language model's ends: one weight to embed tokens and to score them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 6)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.mix(self.embed(tokens)))


class OwnHead(Tied):
    """Ties the weight to a parameter of a module of its own kind."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.ParameterDict({"weight": self.embed.weight})


@pytest.mark.parametrize("build", [Tied, OwnHead])
@pytest.mark.parametrize("options", [{}, {"embeddings": True}, {"skip": ("head", "embed", "scale*")}])
def test_ties_stay_whatever_is_masked(build: type[nn.Module], options: dict[str, Any]) -> None:
    if build is Tied and "skip" in options:
        options = {"skip": ("head", "embed")}
    for weights in ("signed-constant", "keep"):
        module = build()
        answers(module, TOKENS, weights=weights, **options)
        model = convert(module, weights=weights, **options)
        dense = model.export(model.mask_of(model.initial_scores(0)))
        assert dense.head.weight is dense.embed.weight
    assert list(mask_spec(Tied()).shapes) == ["mix.weight", "head.weight"]


@pytest.mark.parametrize(("skip", "embeddings"), [("embed", False), ("head", True), ("embed", True)])
def test_a_weight_that_is_skipped_on_one_side_is_refused(skip: str, embeddings: bool) -> None:
    with pytest.raises(ConversionError, match="skip both or neither"):
        convert(Tied(), skip=skip, embeddings=embeddings)


# -- what calls leave behind ----------------------------------------------------------------------------------------


class Caching(nn.Module):
    """Keeps what it computed from its weight, and looks at what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.kept, self.seen = nn.Linear(6, 3), None, None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.layer.weight.t()
            self.parts = [self.layer]
        self.seen = x
        return x @ self.kept


def test_what_a_call_assigns_can_be_seen_but_reaches_no_other_call() -> None:
    model = convert(Caching())
    one, two = (model.mask_of(model.initial_scores(task)) for task in (0, 1))
    first = model(X, one)
    assert model.module.seen is X
    assert model.module.parts == [model.module.layer]
    assert not torch.equal(model(X, two), first)  # the weight that the first call kept is another task's
    assert torch.equal(model(X, one), first)
    model.module.kept = torch.ones(6, 3)  # a caller's own attribute stays
    assert torch.equal(model(X, one), X @ torch.ones(6, 3))
    assert torch.equal(deepcopy(model)(X, two), X @ torch.ones(6, 3))


class Counting(nn.Module):
    """Counts in a buffer, in place or anew."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.layer, self.in_place = nn.Linear(6, 3), in_place
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            self.count += 1
        else:
            self.count = self.count + 1
        return self.layer(x)


def test_buffers_that_calls_change_are_named() -> None:
    for in_place in (True, False):
        model = convert(Counting(in_place))
        mask = model.mask_of(model.initial_scores(0))
        with pytest.warns(SharedStateWarning, match="count: expected a buffer that calls leave as it is"):
            model(X, mask)
        left = float(model.module.count)
        assert left == (1.0 if in_place else 0.0)  # in place, all tasks have it, as in plain torch
        with model.training_mode(0), pytest.warns(SharedStateWarning, match="the change was dropped"):
            model(X, mask)
        assert float(model.module.count) == left
