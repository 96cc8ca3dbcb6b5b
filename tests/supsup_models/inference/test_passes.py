"""The compiled forward and backward pass against float64 numpy and against autograd, and who takes it."""

import os
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskstore.kernels import has_lookup
from maskstore.kernels import threads as sharing
from supsup_models import MaskedNetwork, infer_task
from supsup_models.errors import ImageValueError, ShapeError
from supsup_models.inference.compiled import fits as passes
from supsup_models.inference.objectives import Entropy, Objective, Superfluous
from supsup_models.inference.superposition import mask_derivatives
from supsup_models.networks import MultilayerPerceptron
from tests.helpers.masks import random_matrix
from tests.helpers.networks import network

needs_vectors = pytest.mark.skipif(not has_lookup(), reason="needs a processor with AVX-512")
seeds = st.integers(0, 2**32 - 1)
layer_sizes = st.lists(st.integers(1, 70), min_size=2, max_size=5)


class Squares(Objective):
    """A cost that only autograd knows the gradient of."""

    def cost(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits**2).sum(dim=1) / 2


def tensors(model: MaskedNetwork, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Effective weights and images."""
    rng = np.random.default_rng(seed)
    shares = torch.from_numpy(rng.random(model.spec.bits, dtype=np.float32))
    return shares * model.weights, torch.from_numpy(rng.standard_normal((count, model.inputs)).astype(np.float32))


def by_autograd(model: MaskedNetwork, weights: torch.Tensor, images: torch.Tensor, objective: Objective) -> np.ndarray:
    """g * W in float64."""
    by_layer = [layer.double().requires_grad_() for layer in model.layer_weights(weights)]
    cost = objective.cost(model.run_layers(images.double(), by_layer)).mean()
    flat = torch.cat([gradient.reshape(-1) for gradient in torch.autograd.grad(cost, by_layer)])
    return (flat * model.weights.double()).numpy()


def in_numpy(images: np.ndarray, sizes: tuple[int, ...], weights: np.ndarray, frozen: np.ndarray) -> np.ndarray:
    """g * W in float64 for half the mean of the squared logits."""
    ends = np.cumsum([of * to for of, to in pairwise(sizes)])[:-1]
    matrices = [w.reshape(to, of) for w, (of, to) in zip(np.split(weights, ends), pairwise(sizes), strict=True)]
    inputs = [images]
    for matrix in matrices[:-1]:
        inputs.append(np.maximum(inputs[-1] @ matrix.T, 0))
    delta = inputs[-1] @ matrices[-1].T / len(images)
    found = [delta.T @ inputs[-1]]
    for matrix, activation, before in zip(matrices[:0:-1], inputs[:0:-1], inputs[-2::-1], strict=True):
        delta = (delta @ matrix) * (activation > 0)
        found.append(delta.T @ before)
    return np.concatenate([part.reshape(-1) for part in found[::-1]]) * frozen


def assert_close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=3e-5 * np.abs(expected).max())


@needs_vectors
@given(layer_sizes, st.integers(1, 80), seeds)
def test_passes_of_any_size_are_plain_products(sizes: list[int], count: int, seed: int) -> None:
    model = network(sizes)
    weights, images = tensors(model, count, seed)
    assert passes.fits(model, weights, images)
    found, are_numbers = passes.mask_derivatives(model, weights, images, Squares())
    wide = (tensor.double().numpy() for tensor in (images, weights, model.weights))
    images64, weights64, frozen64 = wide
    assert are_numbers
    assert_close(found, in_numpy(images64, tuple(sizes), weights64, frozen64))


@needs_vectors
@pytest.mark.parametrize("objective", [Entropy(), Superfluous(10), Squares()], ids=["H", "G", "squares"])
@pytest.mark.parametrize(("sizes", "count"), [((784, 300, 100, 100), 128), ((7, 12), 1), ((50, 130, 11), 1030)])
def test_derivatives_are_those_of_autograd(
    objective: Objective, sizes: tuple[int, ...], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(sizes, classes=10)
    weights, images = tensors(model, count, 0)
    monkeypatch.setattr(sharing, "CORES", 2)
    assert_close(mask_derivatives(model, weights, images, objective), by_autograd(model, weights, images, objective))


@needs_vectors
@pytest.mark.parametrize("objective", [Entropy(), Squares()], ids=["H", "squares"])
def test_results_do_not_depend_on_the_number_of_cores(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network((300, 130, 70, 20))
    weights, images = tensors(model, 333, 0)
    found = []
    for cores in (1, 2, 3, 7):
        monkeypatch.setattr(sharing, "CORES", cores)
        found += [mask_derivatives(model, weights, images, objective).numpy() for _ in range(5)]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@needs_vectors
def test_memory_does_not_grow_with_the_cores_for_a_few_images_of_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    from supsup_models.inference.compiled import derivatives

    monkeypatch.setattr(sharing, "CORES", 64)
    sizes, asked = (20_000, 30, 10), []
    model = network(sizes)
    weights, images = tensors(model, 3, 0)
    plain = derivatives._scratch
    monkeypatch.setattr(derivatives, "_scratch", lambda size: asked.append(size) or plain(size))
    found = mask_derivatives(model, weights, images, Entropy())
    assert asked[0] < 2 * 20_000 * 32  # the images turned, in blocks of 32, and little else
    assert_close(found, by_autograd(model, weights, images, Entropy()))


@needs_vectors
def test_threads_of_the_caller_do_not_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "CORES", 2)
    model = network((200, 90, 30))
    cases = [tensors(model, 40 + 30 * seed, seed) for seed in range(4)]
    expected = [mask_derivatives(model, *case, Entropy()) for case in cases]
    wrong: list[int] = []

    def check(number: int) -> None:
        for _ in range(30):
            if not torch.equal(mask_derivatives(model, *cases[number], Entropy()), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=check, args=(number,)) for number in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@needs_vectors
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "CORES", 3)
    model = network((200, 90, 30))
    case = tensors(model, 100, 0)
    expected = mask_derivatives(model, *case, Entropy())
    child = os.fork()
    if not child:
        os._exit(0 if torch.equal(mask_derivatives(model, *case, Entropy()), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_vectors
def test_an_objective_that_fails_or_thinks_long_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Squares):
        def gradient(self, logits: torch.Tensor) -> torch.Tensor:
            threading.Event().wait(0.05)
            return super().gradient(logits)

    class Failing(Squares):
        def gradient(self, logits: torch.Tensor) -> torch.Tensor:
            raise FloatingPointError("no such cost")

    monkeypatch.setattr(sharing, "CORES", 2)
    model = network((300, 130, 20))
    case = tensors(model, 200, 0)
    expected = mask_derivatives(model, *case, Squares())
    assert torch.equal(mask_derivatives(model, *case, Slow()), expected)
    with pytest.raises(FloatingPointError, match="no such cost"):
        mask_derivatives(model, *case, Failing())
    assert torch.equal(mask_derivatives(model, *case, Squares()), expected)


@needs_vectors
def test_a_gradient_of_another_shape_is_refused() -> None:
    class Short(Squares):
        def gradient(self, logits: torch.Tensor) -> torch.Tensor:
            return super().gradient(logits)[:, :-1]

    model = network((5, 4))
    with pytest.raises(ShapeError, match=r"gradient of .*: expected shape \(3, 4\), found \(3, 3\)"):
        mask_derivatives(model, *tensors(model, 3, 0), Short())


@needs_vectors
def test_an_objective_derived_from_a_known_one_gives_its_own_gradient() -> None:
    class Hotter(Entropy):  # type: ignore[misc]
        def gradient(self, logits: torch.Tensor) -> torch.Tensor:
            return 2 * super().gradient(logits)

    model = network((9, 8, 7))
    case = tensors(model, 5, 0)
    plain = mask_derivatives(model, *case, Entropy())
    torch.testing.assert_close(mask_derivatives(model, *case, Hotter()), 2 * plain)


@needs_vectors
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize("image", [0, 36])
def test_what_is_not_a_number_is_found(value: float, objective: str, image: int) -> None:
    model = network((40, 30, 12), classes=10)
    weights, images = tensors(model, 37, 0)
    images[image] = value
    with pytest.raises(ImageValueError, match="found NaN in its answers"):
        mask_derivatives(model, weights, images, Entropy() if objective == "H" else Superfluous(10))


def test_networks_that_may_compute_otherwise_take_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    class Negated(MultilayerPerceptron):
        def run(self, images, linear):
            return -super().run(images, linear)

    class Shifted(MaskedNetwork):
        def run(self, images, linear):
            return super().run(images + 1, linear)

    arch = MultilayerPerceptron("any", (9,))
    others = [
        MaskedNetwork(Negated("any", (9,)), inputs=6, outputs=5, seed=1),
        Shifted(arch, inputs=6, outputs=5, seed=1),
        MaskedNetwork(arch, inputs=6, outputs=5, seed=1).double(),
    ]
    for model in others:
        weights, images = tensors(model, 3, 0)
        images = images.to(model.weights)
        assert not passes.fits(model, weights, images)
        assert_close(
            mask_derivatives(model, weights, images, Squares()), by_autograd(model, weights, images, Squares())
        )
    monkeypatch.setattr(passes, "has_lookup", lambda: False)
    model = network((6, 9, 5))
    assert not passes.fits(model, *tensors(model, 3, 0))


def test_images_of_another_shape_are_the_networks_error() -> None:
    model = network((6, 5))
    with pytest.raises(ShapeError, match=r"images: expected shape \(b, 6\), found \(2, 7\)"):
        mask_derivatives(model, model.weights, torch.zeros(2, 7), Entropy())


@needs_vectors
@given(st.integers(1, 40), st.integers(2, 40), st.sampled_from([0.1, 30.0, 1e4]), seeds)
def test_closed_gradients_are_those_of_autograd(count: int, outputs: int, scale: float, seed: int) -> None:
    # one layer whose images are unit vectors: its gradient is that of the logits, turned
    model = network((count, outputs))
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy((scale * rng.standard_normal((count, outputs))).astype(np.float32))
    for objective in (Entropy(), Superfluous(outputs // 2)):
        weights, images = logits.T.reshape(-1), torch.eye(count)
        found, _ = passes.mask_derivatives(model, weights, images, objective)
        expected = objective.gradient(logits.double()).float().T.reshape(-1) * model.weights
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@needs_vectors
@pytest.mark.parametrize("method", ["one-shot", "short-list", "exhaustive"])
def test_images_that_are_half_of_a_conjugate(method: str) -> None:
    model = network((20, 16, 12), classes=6)
    rng = np.random.default_rng(0)
    matrix = random_matrix(model.spec, 3)
    images = torch.from_numpy(rng.standard_normal((8, 20)).astype(np.float32))
    view = torch.complex(images, -images).conj().imag
    assert view.is_neg()
    for per_image in (False, True):
        found, expected = (infer_task(model, matrix, x, method, per_image=per_image) for x in (view, images))
        np.testing.assert_array_equal(found.scores, expected.scores)
    expected_derivatives = mask_derivatives(model, model.weights, images, Entropy())
    torch.testing.assert_close(mask_derivatives(model, model.weights, view, Entropy()), expected_derivatives)


@needs_vectors
def test_inference_with_and_without_the_passes_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network((20, 16, 12), classes=6)
    rng = np.random.default_rng(0)
    matrix = random_matrix(model.spec, 9)
    images = torch.from_numpy(rng.standard_normal((40, 20)).astype(np.float32))
    for method in ("one-shot", "binary"):
        with torch.inference_mode():
            fast = infer_task(model, matrix, images, method=method)
        with monkeypatch.context() as patch:
            patch.setattr(passes, "has_lookup", lambda: False)
            plain = infer_task(model, matrix, images, method=method)
        assert fast.task == plain.task
        np.testing.assert_allclose(fast.scores, plain.scores, rtol=1e-3, atol=1e-5)
