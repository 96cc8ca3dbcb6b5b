"""The fast ways to train against their definitions: compiled kernels, bfloat16 products, tasks side by side."""

import threading
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supsup_models import (
    Adam,
    ConvertedModel,
    MaskedModel,
    MaskedNetwork,
    Recipe,
    RMSProp,
    convert,
    train_many,
    train_task,
)
from supsup_models.data.gather import gather
from supsup_models.data.tasks import Split
from supsup_models.errors import LabelValueError, NetworkError, TrainingStopped, UnknownNameError
from supsup_models.networks import MultilayerPerceptron
from supsup_models.training.many import Together, tasks_at_once
from supsup_models.training.recipes import Sparse
from supsup_models.training.steps import Stepping, fastest, make_step
from supsup_models.training.steps.rmsprop_kernel import padded, update
from supsup_models.training.task import NumberedTask, TrainedTask
from tests.helpers.networks import network

seeds = st.integers(0, 2**32 - 1)
CONSTANTS = {"learning_rate": 1e-2, "alpha": 0.99, "eps": 1e-8}


def _blobs(seed: int, count: int = 160, classes: int = 3) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 3 * torch.randn(classes, 12, generator=generator)
    pixels = centres[labels] + torch.randn(count, 12, generator=generator)
    return Split(labels, lambda: pixels, 12)


def _network(hidden: tuple[int, ...] = (24, 17)) -> MaskedNetwork:
    return network((12, *hidden, 6), classes=3, seed=3)


def _update_arrays(size: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(padded(size)).astype(np.float32) for _ in range(5)]
    arrays[3] = np.abs(arrays[3])
    return arrays


def _plain_update(gradient, weights, scores, square, effective, *, learning_rate, alpha, eps) -> None:
    """`update` for float32 in plain numpy."""
    rate, decay, rest, tiny = (np.float32(value) for value in (learning_rate, alpha, 1.0 - alpha, eps))
    q = gradient * weights
    square[:] = decay * square + rest * (q * q)
    scores -= rate * (q / (np.sqrt(square) + tiny))
    effective[:] = np.where(scores >= 0, weights, np.float32(0))


@given(st.integers(1, 100), seeds)
def test_one_pass_update_is_its_reference_to_the_bit(size: int, seed: int) -> None:
    fast, plain = _update_arrays(size, seed), _update_arrays(size, seed)
    for _ in range(3):
        update(*fast, **CONSTANTS)
        _plain_update(*plain, **CONSTANTS)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_array_equal(one, other)


@given(st.integers(1, 100), seeds)
def test_update_from_bfloat16_is_the_update_from_what_it_stands_for(size: int, seed: int) -> None:
    plain = _update_arrays(size, seed)
    plain[1] = np.sign(plain[1])
    bits = (plain[0].view(np.uint32) >> 16).astype(np.uint16)
    plain[0] = (bits.astype(np.uint32) << 16).view(np.float32)
    scores, square, effective = plain[2].copy(), plain[3].copy(), np.empty(padded(size), dtype=np.uint16)
    update(bits, plain[1], scores, square, effective, **CONSTANTS)
    _plain_update(*plain, **CONSTANTS)
    np.testing.assert_array_equal(scores, plain[2])
    np.testing.assert_array_equal(square, plain[3])
    np.testing.assert_array_equal((effective.astype(np.uint32) << 16).view(np.float32), plain[4])


@given(st.integers(1, 20), st.integers(1, 30), seeds)
def test_gathered_images_are_their_reference(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, size=(rows, columns), dtype=np.uint8)
    values = rng.standard_normal(256).astype(np.float32)
    chosen, order = rng.integers(0, rows, size=9), rng.permutation(columns)
    np.testing.assert_array_equal(gather(pixels, chosen, order, values), values[pixels[chosen][:, order]])
    for bad in (np.array([rows]), np.array([-1])):
        with pytest.raises(IndexError, match="expected values in"):
            gather(pixels, bad, order, values)


def test_a_step_in_bfloat16_stays_near_the_definition() -> None:
    model, data = _network(), _blobs(0)
    half, definition = (
        make_step(model, model.initial_scores(1), Recipe("r", RMSProp(1e-3)), stepping=stepping)
        for stepping in ("bfloat16", "autograd")
    )
    images = data.images(slice(0, 32))
    losses = [[float(each.step(images, data.labels[:32], 1e-3)) for _ in range(40)] for each in (half, definition)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.02)
    assert losses[0][-1] == pytest.approx(losses[1][-1], rel=0.1)
    same_bits = (half.scores >= 0) == (definition.scores >= 0)
    assert same_bits.float().mean() > 0.97


def test_bfloat16_needs_one_constant_a_layer() -> None:
    model = _network()
    model.weights[5] *= 1.5
    with pytest.raises(NetworkError, match="one c a layer"):
        make_step(model, model.initial_scores(0), Recipe("r"), stepping="bfloat16")


SPARSE = Recipe("sparse", Adam(1e-2), sparse=Sparse(0.4))


def _converted() -> ConvertedModel:
    module = MultilayerPerceptron("small", (5,)).module(12, 6)
    return convert(module, image_shape=(12,), classes=3)


def test_the_default_is_the_fastest_that_can_do_it() -> None:
    """On float64, which no processor multiplies as bfloat16, so that the answer is the same everywhere."""
    model, sparse = (
        _network().double(),
        SPARSE.network(MultilayerPerceptron("small", (5,)), inputs=12, outputs=6, seed=0),
    )
    assert fastest(model, Recipe("r")) == "fused"
    assert fastest(sparse.double(), SPARSE) == "fused"
    assert fastest(model, Recipe("r", Adam())) == "autograd"
    assert fastest(_converted(), Recipe("r")) == "autograd"
    for recipe in (Recipe("r"), Recipe("r", Adam())):
        step, explicit = (
            make_step(model, model.initial_scores(0), recipe, stepping=stepping)
            for stepping in (None, fastest(model, recipe))
        )
        assert type(step) is type(explicit)


@pytest.mark.parametrize(
    ("model", "recipe", "stepping", "phrase"),
    [
        (_network(), Recipe("r", Adam()), "fused", "stepping fused: expected a MaskedNetwork and RMSProp, .* and Adam"),
        (_network(), Recipe("r", Adam()), "bfloat16", "stepping bfloat16: .*found MaskedNetwork and Adam"),
        (_converted(), Recipe("r"), "fused", "stepping fused: .*found ConvertedModel and RMSProp"),
        (_converted(), Recipe("r"), "bfloat16", "stepping bfloat16: .*found ConvertedModel"),
        (_network(), SPARSE, "autograd", "recipe 'sparse': expected Adam, a density and a network of densities"),
        (_converted(), SPARSE, "fused", "stepping fused: expected a MaskedNetwork, found ConvertedModel"),
    ],
)
def test_a_stepping_that_cannot_do_it_is_refused(
    model: MaskedModel, recipe: Recipe, stepping: Stepping | None, phrase: str
) -> None:
    with pytest.raises(NetworkError, match=phrase):
        make_step(model, model.initial_scores(0), recipe, stepping=stepping)


def test_unknown_steppings_and_ways_to_share_are_refused() -> None:
    model = _network()
    with pytest.raises(UnknownNameError, match="did you mean 'fused'"):
        make_step(model, model.initial_scores(0), Recipe("r"), stepping="fusd")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="did you mean 'stacked'"):
        train_many(model, [], Recipe("r"), steps=1, together="stackd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recipe", "stepping"), [(Recipe("r", Adam()), None), (SPARSE, None), (Recipe("r"), "autograd"), (SPARSE, "fused")]
)
def test_a_stack_trains_threshold_masks_by_rmsprop_only(recipe: Recipe, stepping: Stepping | None) -> None:
    tasks = [NumberedTask(0, _blobs(0))]
    with pytest.raises(NetworkError, match="stacked training: expected RMSProp, threshold masks and no stepping but"):
        train_many(_network(), tasks, recipe, steps=1, stepping=stepping, together="stacked")


SEVERAL = [NumberedTask(number, _blobs(number)) for number in (4, 0, 7, 2, 9)]
COSINE = Recipe("r", RMSProp(1e-3), schedule="cosine", batch_size=16)


@pytest.fixture(scope="module")
def separate_runs() -> list[TrainedTask]:
    model = _network().double()
    return [train_task(model, task.data, COSINE, task=task.number, steps=60, stepping="autograd") for task in SEVERAL]


@pytest.mark.parametrize("together", get_args(Together))
@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
def test_many_tasks_equal_separate_runs(together: Together, at_once: int, separate_runs: list[TrainedTask]) -> None:
    """In float64, so that rounding cannot flip a mask bit."""
    threads = torch.get_num_threads()
    many = list(train_many(_network().double(), SEVERAL, COSINE, steps=60, together=together, at_once=at_once))
    assert torch.get_num_threads() == threads
    for alone, trained in zip(separate_runs, many, strict=True):
        assert trained.mask == alone.mask
        assert trained.loss == pytest.approx(alone.loss, rel=1e-8)


@pytest.mark.parametrize("together", get_args(Together))
def test_many_tasks_report_by_number(together: Together) -> None:
    seen: list[tuple[int, int]] = []
    tasks = [NumberedTask(number, _blobs(number)) for number in (5, 6)]
    recipe = Recipe("r", batch_size=8)
    list(
        train_many(
            _network(),
            tasks,
            recipe,
            steps=100,
            together=together,
            on_step=lambda n, step, loss: seen.append((n, step)),
        )
    )
    assert sorted(seen) == [(5, 50), (5, 100), (6, 50), (6, 100)]


def test_closing_stops_what_is_in_training() -> None:
    before = threading.active_count()
    tasks = [NumberedTask(number, _blobs(number)) for number in range(6)]
    results = train_many(_network(), tasks, Recipe("r", batch_size=8), steps=100, at_once=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    with pytest.raises(TrainingStopped, match="task 0: stopped after 50 of 100 batches"):
        train_task(_network(), _blobs(0), Recipe("r", batch_size=8), task=0, steps=100, stop=lambda: True)


@pytest.mark.parametrize("together", get_args(Together))
def test_bad_data_of_one_task_is_refused(together: Together) -> None:
    bad = _blobs(1, classes=5)
    tasks = [NumberedTask(0, _blobs(0)), NumberedTask(1, bad)]
    with pytest.raises(LabelValueError, match=r"\[0, 3\)"):
        list(train_many(_network(), tasks, Recipe("r", batch_size=8), steps=4, together=together))
    with pytest.raises(NetworkError, match="at least 1 task"):
        train_many(_network(), tasks, Recipe("r"), steps=4, at_once=0)
    with pytest.raises(NetworkError, match="weight_gain"):
        list(train_many(_network(), tasks, Recipe("r", weight_gain=3.0), steps=4, together=together))


def test_tasks_at_once_is_at_least_one() -> None:
    for together in get_args(Together):
        assert tasks_at_once(_network(), 128, together) >= 1


def test_images_of_bytes_are_the_same_one_by_one_and_in_a_batch() -> None:
    """Through the compiled gather and through torch's float operations, to the bit."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, size=(20, 12), dtype=np.uint8))
    columns = torch.from_numpy(rng.permutation(12))
    split = Split(torch.zeros(20, dtype=torch.int64), lambda: pixels, 12, 1 / 78.5, -0.42, columns=columns)
    expected: Tensor = pixels.float().mul(1 / 78.5).add(-0.42)[:, columns]
    indices = torch.from_numpy(rng.integers(0, 20, size=15))
    assert torch.equal(split.images(indices), expected[indices])
    assert torch.equal(split.images(slice(3, 9)), expected[3:9])
