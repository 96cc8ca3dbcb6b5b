"""A converted module takes every call that its module takes, and a call that lacks something is refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supsup_models import ConvertedModel, convert
from supsup_models.errors import ArgumentTypeError, MissingMaskError, MissingStatisticsError, ShapeError


class Keywords(nn.Module):
    """Takes keywords only, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, *, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        y = self.layer(input_ids)
        return y if attention_mask is None else y * attention_mask


class Greedy(Keywords):
    """Has arguments of the names that a converted model has."""

    def forward(self, x: Tensor, mask: Tensor, extras: Tensor | None = None) -> Tensor:  # type: ignore[override]
        y = self.layer(x) * mask
        return y if extras is None else y + extras


class AnyKeywords(Keywords):
    """Passes on what it is given."""

    def forward(self, x: Tensor, **others: Tensor) -> Tensor:  # type: ignore[override]
        y = self.layer(x)
        for name in sorted(others):
            y = y * others[name] if name == "mask" else y + others[name]
        return y


class Pair(Keywords):
    """Takes two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return self.layer(x) + self.layer(y)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


X, Y = (torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
TOKENS = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2))
CAUSAL = nn.Transformer.generate_square_subsequent_mask(5)
CALLS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], dict[str, Any]]] = {
    "encoder, by name": (encoder, (TOKENS,), {"mask": CAUSAL}),
    "encoder, by position": (encoder, (TOKENS, CAUSAL), {}),
    "encoder, none by position": (encoder, (TOKENS, None, torch.zeros(3, 5, dtype=torch.bool)), {}),
    "keywords only": (Keywords, (), {"input_ids": X, "attention_mask": Y[:, :3]}),
    "names of ours": (Greedy, (X,), {"mask": Y[:, :3], "extras": Y[:, 1:]}),
    "names of ours, by position": (Greedy, (X, Y[:, :3], Y[:, 1:]), {}),
    "any keywords": (AnyKeywords, (X,), {"mask": Y[:, :3], "extras": Y[:, 1:], "more": Y[:, 1:]}),
    "two inputs": (Pair, (X, Y), {}),
    "two inputs by name": (Pair, (), {"y": X, "x": Y}),
}


def converted(build: Callable[[], nn.Module], **options: Any) -> ConvertedModel:
    torch.manual_seed(0)
    return convert(build(), seed=3, **options)


@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_the_module_is_one_of_the_model(name: str) -> None:
    build, args, kwargs = CALLS[name]
    model = converted(build)
    mask = model.mask_of(model.initial_scores(0))
    with torch.no_grad():
        right = model.export(mask)(*args, **kwargs)
        assert torch.equal(model.bind(mask)(*args, **kwargs), right)
        with model.apply_mask(mask):
            assert torch.equal(model(*args, **kwargs), right)
        if args:
            assert torch.equal(model(args[0], mask, *args[1:], **kwargs), right)
            assert torch.equal(model(args[0], mask.dense(), *args[1:], **kwargs), right)


def test_a_mask_by_name_is_ours_where_the_module_cannot_mean_it() -> None:
    for build, args, kwargs in ((Keywords, (), {"input_ids": X}), (AnyKeywords, (X,), {}), (Pair, (X, Y), {})):
        model = converted(build)
        mask = model.mask_of(model.initial_scores(0))
        right = model.export(mask)(*args, **kwargs)
        with torch.no_grad():
            for form in (mask, mask.dense()):
                if build is not Pair:  # whose second argument by position is a mask outside of a block
                    assert torch.equal(model(*args, mask=form, **kwargs), right)
                with model.apply_mask(model.mask_of(model.initial_scores(1))):
                    assert torch.equal(model(*args, mask=form, **kwargs), right)


def test_a_mask_object_is_never_given_to_the_module() -> None:
    model = converted(Greedy)
    one, two = (model.mask_of(model.initial_scores(task)) for task in (0, 1))
    with torch.no_grad():
        right = model.export(one)(X, Y[:, :3])
        assert torch.equal(model(X, one, Y[:, :3]), right)
        with model.apply_mask(two):
            assert torch.equal(model(X, one, Y[:, :3]), right)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'mask'"):
            model(X, mask=one)  # the module's own is missing


def test_images_are_shaped_by_position_and_by_name() -> None:
    model = converted(lambda: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()), image_shape=(1, 8, 8))
    run = model.bind(model.mask_of(model.initial_scores(0)))
    images = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run(input=images), run(images))
    assert torch.equal(run(images.view(2, 1, 8, 8)), run(images))
    with pytest.raises(ShapeError, match=r"expected shape \(b, 64\)"):
        run(input=images[:, 1:])


def test_a_call_without_a_mask_is_an_error_not_the_full_network() -> None:
    model = converted(lambda: nn.Linear(4, 3))
    for call in (
        lambda: model(X),
        lambda: model(X, None),
        lambda: model(X, mask=None),
        lambda: model.bind(None),
        lambda: model.apply_mask(None).__enter__(),
        lambda: model(),
    ):
        with pytest.raises(MissingMaskError, match="expected a mask"):
            call()
    for other in ("task-0", 3, X):
        with pytest.raises(ArgumentTypeError, match="expected a Mask or a dict of bool arrays by layer"):
            model(X, other)
    mask = model.mask_of(model.initial_scores(0))
    with model.apply_mask(mask):
        assert torch.equal(model(X, None), model(X, mask))  # a block's mask, for modules of one argument


def normalised(kind: type[nn.Module] = nn.BatchNorm2d, **options: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), kind(4, **options), nn.Flatten(), nn.Linear(144, 3))


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d, nn.SyncBatchNorm])
def test_statistics_that_are_missing_are_named(kind: type[nn.Module]) -> None:
    model = converted(lambda: normalised(kind, track_running_stats=True))
    mask, images = model.mask_of(model.initial_scores(0)), torch.randn(5, 1, 8, 8)
    extras = {name: value + 0.25 for name, value in model.initial_statistics().items()}
    for call in (lambda: model(images, mask), lambda: model.bind(mask), lambda: model.export(mask)):
        with pytest.raises(MissingStatisticsError, match=r"statistics of '1\.running_mean' and others, found none"):
            call()
    with torch.no_grad():
        given = model(images, mask, extras=extras)
        assert torch.equal(model.export(mask, extras)(images), given)
        arrays = {name: value.numpy() for name, value in extras.items()}
        assert torch.equal(model(images, mask, extras=arrays), given)
        torch.testing.assert_close(model(images[:1], mask, extras=extras), given[:1])
        batch = model(images, mask, extras="batch")
        assert torch.equal(model.run_with(images, model.masked_weights(mask)), batch)
        assert torch.equal(model.export(mask, "batch")(images), batch)
        assert not torch.allclose(batch, given, atol=1e-3)
        with model.apply_mask(mask, extras):
            assert torch.equal(model(images), given)
            assert torch.equal(model(images, extras="batch"), batch)
            with pytest.raises(MissingStatisticsError):
                model(images, mask)  # the block's statistics belong to the block's mask
    training = model.bind(mask, model.initial_statistics())
    with model.training_mode(0):
        training(images)
    assert training.statistics is not None
    assert np.abs(training.statistics["1.running_mean"].numpy()).max() > 0


def test_kept_weights_run_with_the_statistics_they_came_with() -> None:
    torch.manual_seed(0)
    plain, images = normalised(), torch.randn(6, 1, 8, 8)
    for _ in range(3):
        plain(images * 2 + 1)
    plain.eval()
    model = convert(plain, weights="keep", image_shape=(1, 8, 8))
    everything = model.mask_of(model.initial_scores(0))
    with torch.no_grad():
        right = plain(images)
        assert torch.equal(model(images, everything), right)
        assert torch.equal(model.run_with(images, model.weights), right)
        with model.apply_mask(everything):
            assert torch.equal(model(images[:1]), plain(images[:1]))
        copy = model.export(everything)
        assert torch.equal(copy(images), right)
        state, own = copy.state_dict(), plain.state_dict()
        assert state.keys() == own.keys()
        assert all(torch.equal(state[name], own[name]) for name in own)  # the count of batches, too
        assert not torch.equal(model(images, everything, extras="batch"), right)
        model.train()
        model(images, everything)  # by the batch, as torch does; the statistics stay
        assert torch.equal(model.eval()(images, everything), right)
