"""Training: the straight-through gradient, the fast step against its definition, and what bad data gets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supsup_models import Adam, MaskedNetwork, NumberedTask, Recipe, RMSProp, train_many, train_task
from supsup_models.data import batch_order
from supsup_models.errors import ImageValueError, LabelValueError, NetworkError, ShapeError, SupSupError
from supsup_models.networks.score_masks import threshold
from supsup_models.training import task as task_module
from supsup_models.training.recipes import Sparse
from supsup_models.training.steps import Step, make_step
from tests.helpers.networks import network


@dataclass
class Blobs:
    """Gaussian blobs, one a class."""

    seed: int = 0
    inputs: int = 12
    classes: int = 3
    count: int = 200
    labels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.labels = torch.arange(self.count) % self.classes
        centres = 3 * torch.randn(self.classes, self.inputs, generator=generator)
        self.values = centres[self.labels] + torch.randn(self.count, self.inputs, generator=generator)

    def images(self, indices: Tensor | slice) -> Tensor:
        return self.values[indices].clone()

    def to(self, device: torch.device) -> Self:
        return self


def small_network(hidden: tuple[int, ...] = (9, 7), *, seed: int = 0) -> MaskedNetwork:
    return network((12, *hidden, 6), classes=3, seed=seed)


def test_threshold_passes_the_gradient_straight_through() -> None:
    scores = torch.tensor([-2.0, -1e-30, 0.0, 1e-30, 3.0], requires_grad=True)
    mask = threshold(scores)
    assert mask.tolist() == [0, 0, 1, 1, 1]
    upstream = torch.arange(5.0)
    mask.backward(upstream)
    assert scores.grad is not None
    assert torch.equal(scores.grad, upstream)


@given(
    hidden=st.lists(st.integers(1, 8), min_size=0, max_size=3),
    batch=st.integers(1, 9),
    seed=st.integers(0, 2**64 - 1),
    learning_rate=st.sampled_from([1e-4, 1e-3, 1e-2]),
)
@settings(max_examples=40)
def test_the_fused_step_equals_autograd_to_rounding(
    hidden: list[int], batch: int, seed: int, learning_rate: float
) -> None:
    """In float64, so that rounding cannot flip a mask bit."""
    model = small_network(tuple(hidden), seed=seed).double()
    generator = torch.Generator().manual_seed(seed % 2**63)
    fused, definition = (
        make_step(model, model.initial_scores(5), Recipe("r"), stepping=stepping) for stepping in ("fused", "autograd")
    )
    for step in range(6):
        images = torch.randn(batch, 12, dtype=torch.float64, generator=generator)
        labels = torch.randint(0, 3, (batch,), generator=generator)
        rate = learning_rate / (step + 1)
        loss, expected = fused.step(images, labels, rate), definition.step(images, labels, rate)
        assert torch.allclose(loss, expected, rtol=1e-10)
        assert torch.allclose(fused.scores, definition.scores.detach(), rtol=1e-7, atol=1e-10)


def test_both_steppings_train_the_same_mask() -> None:
    model = small_network().double()
    trained = [
        train_task(model, Blobs(), Recipe("r", batch_size=16), task=0, steps=60, stepping=stepping)
        for stepping in ("fused", "autograd")
    ]
    assert trained[0].mask == trained[1].mask
    assert trained[0].loss == pytest.approx(trained[1].loss, rel=1e-8)


CURVES = {
    "fused": (Recipe("r", RMSProp(1e-3), batch_size=16), "fused", None),
    "autograd": (Recipe("r", Adam(1e-2), batch_size=16), None, None),
    "sparse": (Recipe("r", Adam(1e-2), batch_size=16, sparse=Sparse(0.3, novelty_weight=0.1)), "fused", (0.3, 0.3)),
}


@pytest.mark.parametrize("kind", CURVES)
def test_a_curve_has_what_each_reported_batch_showed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are recorded on the way to every step, and the curve is compared with them."""
    recipe, stepping, densities = CURVES[kind]
    model, blobs, steps = network((12, 9, 6), classes=3, densities=densities), Blobs(), 120
    seen: list[tuple[float, float]] = []

    def recording(*arguments: Any, **named: Any) -> Step:
        step = make_step(*arguments, **named)
        plain = step.step

        def recorded(images: Tensor, labels: Tensor, rate: float) -> Tensor:
            loss = plain(images, labels, rate)
            own = F.cross_entropy(step.logits.float(), labels)
            assert float(own) == pytest.approx(float(loss), rel=1e-3)  # the answers are those of this batch
            right = (step.logits[:, :3].argmax(dim=1) == labels).float().mean()
            seen.append((float(loss), float(right)))
            return loss

        monkeypatch.setattr(step, "step", recorded)
        return step

    monkeypatch.setattr(task_module, "make_step", recording)
    trained = train_task(model, blobs, recipe, task=0, steps=steps, stepping=stepping)
    assert trained.curve.batches == (50, 100, 120)
    assert [*zip(trained.curve.losses, trained.curve.accuracies, strict=True)] == [
        seen[at - 1] for at in (50, 100, 120)
    ]
    assert trained.loss == trained.curve.losses[-1]


def test_stacked_tasks_have_the_curves_of_single_ones() -> None:
    model = small_network().double()
    tasks = [NumberedTask(number, Blobs(number)) for number in range(3)]
    recipe = Recipe("r", RMSProp(1e-3), batch_size=16)
    stacked = [each.curve for each in train_many(model, tasks, recipe, steps=60, together="stacked")]
    for task, curve in zip(tasks, stacked, strict=True):
        alone = train_task(model, task.data, recipe, task=task.number, steps=60, stepping="fused").curve
        assert curve.batches == alone.batches == (50, 60)
        assert curve.losses == pytest.approx(alone.losses)
        assert curve.accuracies == pytest.approx(alone.accuracies)


def test_training_learns_and_repeats_itself() -> None:
    model, blobs = small_network((40,)), Blobs()
    recipe = Recipe("r", RMSProp(3e-3), schedule="cosine", batch_size=32)
    first, second = (train_task(model, blobs, recipe, task=1, steps=150) for _ in range(2))
    assert first.mask == second.mask
    right = model(blobs.values, first.mask)[:, :3].argmax(1) == blobs.labels
    assert right.float().mean() > 0.9
    assert train_task(model, blobs, recipe, task=2, steps=150).mask != first.mask


def test_batches_run_through_whole_epochs() -> None:
    order = batch_order(3, 1, images=10, steps=5, batch_size=4)
    assert order.shape == (5, 4)
    flat = order.reshape(-1)
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert not np.array_equal(flat[:10], flat[10:])
    assert flat[:10].tolist() == [7, 3, 8, 9, 4, 1, 5, 2, 6, 0]  # golden: another machine trains on the same batches


def test_cosine_schedule_ends_near_zero() -> None:
    recipe = Recipe("r", RMSProp(1e-3), schedule="cosine")
    assert recipe.learning_rate(0, 100) == 1e-3
    assert recipe.learning_rate(50, 100) == pytest.approx(5e-4)
    assert 0 < recipe.learning_rate(99, 100) < 1e-6


def test_progress_is_told_every_fifty_steps() -> None:
    seen: list[int] = []
    train_task(small_network(), Blobs(), Recipe("r"), task=0, steps=120, on_step=lambda step, loss: seen.append(step))
    assert seen == [50, 100]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_images_with_nan_are_refused(bad: float) -> None:
    blobs = Blobs(count=16)
    blobs.values[11, 4] = bad
    with pytest.raises(ImageValueError, match="found NaN or infinity"):
        train_task(small_network(), blobs, Recipe("r", batch_size=16), task=0, steps=1)


@pytest.mark.parametrize("label", [-1, 3, 1000])
def test_labels_out_of_range_are_refused(label: int) -> None:
    blobs = Blobs()
    blobs.labels[5] = label
    with pytest.raises(LabelValueError, match=rf"\[0, 3\), found {label}"):
        train_task(small_network(), blobs, Recipe("r"), task=0, steps=1)


def test_data_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="images"):
        train_task(small_network(), Blobs(inputs=13), Recipe("r"), task=0, steps=1)
    empty = Blobs()
    empty.labels = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ShapeError, match="labels"):
        train_task(small_network(), empty, Recipe("r"), task=0, steps=1)


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: RMSProp(0.0), r"RMSProp: expected learning_rate in \(0, inf\), found 0"),
        (lambda: RMSProp(float("nan")), "learning_rate in .*, found nan"),
        (lambda: RMSProp(alpha=1.0), r"alpha in \[0, 1\), found 1"),
        (lambda: Adam(float("inf")), "Adam: expected learning_rate"),
        (lambda: Adam(betas=(0.9, 1.5)), r"Adam: expected betas in \[0, 1\), found 1.5"),
        (lambda: Recipe("r", batch_size=0), r"recipe 'r': expected batch_size in \[1, inf\), found 0"),
        (lambda: Recipe("r", weight_gain=-1.0), "weight_gain"),
        (lambda: Recipe("r", schedule="cosin"), "did you mean 'cosine'"),  # type: ignore[arg-type]
        (lambda: Sparse(0.1, settled=1.5), r"sparse recipe: expected settled in \[0, 1\], found 1.5"),
        (lambda: Sparse(0.1, start_density=0.0), r"start_density in \(0, 1\], found 0"),
        (lambda: Sparse(0.1, rate_weight=float("nan")), "rate_weight in .*, found nan"),
    ],
)
def test_recipes_that_cannot_be(make: Callable[[], object], phrase: str) -> None:
    with pytest.raises(SupSupError, match=phrase):
        make()


def test_a_recipe_must_fit_the_network() -> None:
    with pytest.raises(NetworkError, match=r"weight_gain 2\.0, found 1\.0"):
        train_task(small_network(), Blobs(), Recipe("r", weight_gain=2.0), task=0, steps=1)
    with pytest.raises(NetworkError, match="at least 1 batch"):
        train_task(small_network(), Blobs(), Recipe("r"), task=0, steps=0)
