"""Task inference against its definition: autograd over an explicit stack of float masks, one image at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskstore import MaskMatrix, MaskSpec
from supsup_models import MaskedNetwork, infer_each, infer_task
from supsup_models.errors import ImageValueError, InferenceError, ShapeError, UnknownNameError
from supsup_models.inference.methods.binary import median_split
from supsup_models.inference.objectives import OBJECTIVES
from tests.helpers.masks import random_matrix
from tests.helpers.methods import METHODS
from tests.helpers.networks import network

CLASSES, INPUTS = 3, 10


def small_network(seed: int = 0) -> MaskedNetwork:
    return network((INPUTS, 16, 9, 8), classes=CLASSES, seed=seed, weight_gain=1.5)


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(seed))


def entropy(logits: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=logits).entropy().mean()


def superfluous(logits: Tensor) -> Tensor:
    """logsumexp, with the gradient of the real outputs cut, as in section 3.4."""
    let_through = torch.zeros(logits.shape[1])
    let_through[CLASSES:] = 1
    return torch.logsumexp(logits * let_through + (logits * (1 - let_through)).detach(), dim=1).mean()


def dense_derivative(
    model: MaskedNetwork, matrix: MaskMatrix, images: Tensor, cost: Callable[[Tensor], Tensor], alpha: Tensor
) -> Tensor:
    """-dL/dalpha by autograd, with all masks as floats."""
    stack = torch.stack([torch.from_numpy(matrix[i].flat()).float() for i in range(len(matrix))])  # (k, bits)
    alpha = alpha.clone().requires_grad_()
    loss = cost(model.run_with(images, model.weights * (alpha @ stack)))
    return -torch.autograd.grad(loss, alpha)[0]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("k", [1, 2, 7])
def test_one_shot_is_the_gradient_at_the_mean(objective: str, k: int) -> None:
    model = small_network()
    matrix, images = random_matrix(model.spec, k), random_images(20)
    cost = entropy if objective == "H" else superfluous
    expected = dense_derivative(model, matrix, images, cost, torch.full((k,), 1 / k))
    guess = infer_task(model, matrix, images, method="one-shot", objective=objective)
    np.testing.assert_allclose(guess.scores, expected, rtol=2e-4, atol=2e-6)
    assert guess.task == int(expected.argmax())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_exhaustive_is_every_masks_own_cost(objective: str) -> None:
    model = small_network()
    matrix, images = random_matrix(model.spec, 5), random_images(20)
    guess = infer_task(model, matrix, images, method="exhaustive", objective=objective)
    for i in range(5):
        logits = model(images, matrix[i])
        if objective == "H":
            expected = entropy(logits)
        else:
            expected = -torch.log_softmax(logits, 1)[:, :CLASSES].logsumexp(1).mean()
        assert guess.scores[i] == pytest.approx(-float(expected), rel=1e-4)


def algorithm_2(model: MaskedNetwork, matrix: MaskMatrix, images: Tensor, cost: Callable[[Tensor], Tensor]) -> int:
    """Binary inference as the paper prints it, dense, for scores without ties."""
    alpha = torch.full((len(matrix),), 1 / len(matrix))
    while int((alpha > 0).sum()) > 1:
        g = dense_derivative(model, matrix, images, cost, alpha)
        median = float(np.median(g[alpha > 0]))
        alpha[g <= median] = 0
        alpha /= alpha.sum()
    return int(alpha.argmax())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("k", [1, 2, 3, 6, 13])
def test_binary_is_algorithm_2(objective: str, k: int) -> None:
    model = small_network()
    matrix = random_matrix(model.spec, k)
    cost = entropy if objective == "H" else superfluous
    for seed in range(4):
        images = random_images(5, seed)
        guess = infer_task(model, matrix, images, method="binary", objective=objective)
        assert guess.task == algorithm_2(model, matrix, images, cost) == guess.scores.argmax()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 2, 5, 11])
def test_per_image_is_each_image_alone(method: str, objective: str, k: int) -> None:
    model = small_network()
    matrix, images = random_matrix(model.spec, k), random_images(13)
    together = infer_each(model, matrix, images, method=method, objective=objective)
    assert together.scores.shape == (13, k)
    for number, image in enumerate(images.split(1)):
        alone = infer_task(model, matrix, image, method=method, objective=objective)
        listed = np.isfinite(together.scores[number])  # short-list scores only some masks, per image only
        np.testing.assert_allclose(together.scores[number][listed], alone.scores[listed], rtol=1e-3, atol=1e-5)
        if not listed.all():
            continue
        assert together.tasks[number] == alone.task


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_tasks_does_not_matter(method: str, objective: str) -> None:
    model = small_network()
    matrix, images = random_matrix(model.spec, 9), random_images(12)
    order = np.random.default_rng(1).permutation(9)
    shuffled = matrix.select([int(row) for row in order])
    # each step of descent carries on the rounding of those before it
    rtol = 2e-3 if method == "gradient" else 1e-4
    guess, other = (infer_task(model, rows, images, method=method, objective=objective) for rows in (matrix, shuffled))
    assert order[other.task] == guess.task
    np.testing.assert_allclose(other.scores, guess.scores[order], rtol=rtol, atol=1e-5)
    each, others = (infer_each(model, rows, images, method=method, objective=objective) for rows in (matrix, shuffled))
    assert np.array_equal(order[others.tasks], each.tasks)
    np.testing.assert_allclose(others.scores, each.scores[:, order], rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_few_images_get_the_scores_of_many(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network()
    matrix, images = random_matrix(model.spec, 40), random_images(3)
    monkeypatch.setattr("supsup_models.inference.methods.one_shot.MASKS_AN_IMAGE", 41)
    many = infer_each(model, matrix, images, method="one-shot", objective=objective)
    monkeypatch.setattr("supsup_models.inference.methods.one_shot.MASKS_AN_IMAGE", 1)
    few = infer_each(model, matrix, images, method="one-shot", objective=objective)
    np.testing.assert_allclose(few.scores, many.scores, rtol=1e-3, atol=1e-5)
    assert np.array_equal(few.tasks, many.tasks)


def test_a_guess_does_not_depend_on_the_chunk_an_image_falls_in(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network()
    matrix, images = random_matrix(model.spec, 4), random_images(11)
    whole = infer_each(model, matrix, images, method="binary")
    monkeypatch.setattr("supsup_models.inference.infer._CHUNK", 3)
    pieces = infer_each(model, matrix, images, method="binary")
    assert np.array_equal(whole.tasks, pieces.tasks)


@given(st.data())
@settings(max_examples=150)
def test_median_split_halves_and_always_gets_on(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 9))
    values = st.one_of(st.integers(0, 3).map(float), st.floats(-1, 1, width=32))
    scores = torch.tensor(data.draw(st.lists(values, min_size=k, max_size=k)), dtype=torch.float32)
    candidates = torch.tensor(data.draw(st.lists(st.booleans(), min_size=k, max_size=k).filter(any)))
    kept = median_split(scores[None], candidates[None])[0]
    count = int(candidates.sum())
    above = candidates & (scores > float(np.median(scores[candidates])))
    assert not (kept & ~candidates).any()
    assert 1 <= int(kept.sum()) <= max(1, count - 1)
    assert float(scores[kept].min()) >= float(scores[candidates & ~kept].max()) if int(kept.sum()) < count else True
    if above.any():
        assert torch.equal(kept, above)
    if len(set(scores[candidates].tolist())) == count > 1:
        assert int(kept.sum()) == count // 2


def test_masks_that_are_all_the_same_are_a_tie_for_the_first() -> None:
    model = small_network()
    one = random_matrix(model.spec, 1)[0]
    matrix = MaskMatrix(model.spec, [one] * 4)
    for method in METHODS:
        assert infer_task(model, matrix, random_images(3), method=method).task == 0
        each = infer_each(model, matrix, random_images(3), method=method)
        assert each.tasks.tolist() == [0, 0, 0]


def test_what_cannot_be_answered_is_refused() -> None:
    model = small_network()
    matrix, images = random_matrix(model.spec, 3), random_images(4)
    with pytest.raises(InferenceError, match="at least one mask"):
        infer_task(model, MaskMatrix(model.spec), images)
    with pytest.raises(UnknownNameError, match="did you mean 'binary'"):
        infer_task(model, matrix, images, method="binery")
    with pytest.raises(UnknownNameError, match="expected one of one-shot, binary"):
        infer_each(model, matrix, images, method="")
    with pytest.raises(UnknownNameError, match="expected one of H, G"):
        infer_task(model, matrix, images, objective="K")
    with pytest.raises(ShapeError, match="masks"):
        infer_task(model, random_matrix(MaskSpec({"fc1": (2, 2)}), 3), images)
    for bad in (torch.zeros(4, 9), torch.zeros(INPUTS), torch.zeros(0, INPUTS)):
        with pytest.raises(ShapeError, match="images"):
            infer_task(model, matrix, bad)
    whole = images.numpy()
    wrong = [None, "images", [[1.0], [1.0, 2.0]], whole.astype(object), whole + 1j, images + 1j, images.to_sparse()]
    for other in wrong:
        with pytest.raises(ShapeError, match="images: expected"):
            infer_task(model, matrix, other)
    expected = infer_task(model, matrix, images).scores
    for same in (whole.astype(">f4"), whole[::-1][::-1], np.flip(np.flip(whole).copy()), whole.tolist()):
        np.testing.assert_array_equal(infer_task(model, matrix, same).scores, expected)
    images[2, 1] = float("nan")
    with pytest.raises(ImageValueError, match="image 2"):
        infer_task(model, matrix, images)
    full = network((INPUTS, 4, CLASSES))
    with pytest.raises(InferenceError, match="superfluous"):
        infer_task(full, random_matrix(full.spec, 2), random_images(1), objective="G")
