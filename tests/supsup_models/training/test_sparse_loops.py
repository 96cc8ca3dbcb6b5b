"""The compiled loops of sparse training against torch: the same step up to rounding, and the same thresholds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supsup_models import RECIPES, Adam
from supsup_models.training.steps import layer_adam, make_step, sparse, sparse_kernel
from supsup_models.training.steps.layer_adam import LayerAdam
from supsup_models.training.steps.listed_products import Lists, turned_copy


@pytest.mark.parametrize("background", [None, 0.0, -0.5])
def test_a_compiled_step_is_torchs_step(monkeypatch: pytest.MonkeyPatch, background: float | None) -> None:
    """Over steps that look for thresholds, take pulls, and lower the density; loss and scores stay together.

    With images of which most pixels are one number, and with others.
    """
    recipe = RECIPES["default"]
    model = recipe.network("lenet-300-100", inputs=40, outputs=20, classes=10, seed=0)
    made = []
    for compiled in (True, False):
        for module in (sparse, layer_adam):
            monkeypatch.setattr(module, "compiles", lambda compiled=compiled: compiled)
        made.append(make_step(model, model.initial_scores(0), recipe, stepping="fused", steps=40))
    fast, plain = made
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        images = torch.randn(16, 40, generator=generator)
        if background is not None:
            images[torch.rand(images.shape, generator=generator) < 0.8] = background
        labels = torch.randint(0, 10, (16,), generator=generator)
        losses = [float(step.step(images, labels, 1e-3)) for step in made]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    if background is None:
        torch.testing.assert_close(fast.scores, plain.scores, rtol=1e-4, atol=1e-4)
    else:  # sums of many equal pixels may be zero but for rounding, and ReLU then lets one of the two pass
        assert torch.isclose(fast.scores, plain.scores, rtol=1e-4, atol=1e-4).float().mean() > 0.98
    assert not torch.equal(fast.scores, model.initial_scores(0))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), size=st.integers(1, 5000), share=st.floats(0.0, 1.0), width=st.floats(0.0, 1.0))
def test_a_threshold_is_the_kth_largest_score_wherever_it_was_last(seed, size, share, width):
    rng = np.random.default_rng(seed)
    scores = rng.choice([1.0, 0.1], 1) * rng.standard_normal(size).round(2)  # ties among them
    scores = scores.astype(np.float32)
    count = max(1, min(size, round(share * size)))
    found = sparse_kernel.threshold(scores, count, float(rng.standard_normal()), width)
    assert found == np.sort(scores)[size - count]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    rows=st.integers(1, 50),
    columns=st.integers(1, 50),
    wide=st.integers(1, 70),
    share=st.floats(0.0, 1.0),
    background=st.sampled_from([0.0, -0.5]),
)
def test_products_with_lists_are_those_with_the_array(seed, rows, columns, wide, share, background):
    rng = np.random.default_rng(seed)
    array = np.where(rng.random((rows, columns)) < share, rng.standard_normal((rows, columns)), background)
    array = array.astype(np.float32)
    right, left = (rng.standard_normal((size, wide)).astype(np.float32) for size in (columns, rows))
    lists, turned = Lists.of(array, background), np.empty((wide, rows), dtype=np.float32)
    lists.times_turned(right, turned)
    np.testing.assert_allclose(lists.times(right), array @ right, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(turned, (array @ right).T, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(turned_copy(array), array.T)
    signs = np.sign(array)
    kept = Lists.kept(array, 0.25, signs)
    np.testing.assert_allclose(kept.times(right), ((array >= 0.25) * signs) @ right, rtol=1e-4, atol=1e-4)
    back = kept.transposed_times(left, columns)
    np.testing.assert_allclose(back, ((array >= 0.25) * signs).T @ left, rtol=1e-4, atol=1e-4)


def test_compiled_adam_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(7, 9, generator=generator), torch.randn(3, 7, generator=generator)]
    made = []
    for compiled in (True, False):
        monkeypatch.setattr(layer_adam, "compiles", lambda compiled=compiled: compiled)
        scores, gradients = [one.clone() for one in start], [torch.zeros_like(one) for one in start]
        made.append((scores, gradients, LayerAdam(scores, gradients, Adam(3e-2, betas=(0.9, 0.99)), floor=0.5)))
    for _ in range(5):
        for shown in zip(*(gradients for _, gradients, _ in made), strict=True):
            value = torch.randn(shown[0].shape, generator=generator)
            for gradient in shown:
                gradient.copy_(value)
        for _, _, adam in made:
            adam.step(1e-2)
    for fast, plain in zip(made[0][0], made[1][0], strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)
