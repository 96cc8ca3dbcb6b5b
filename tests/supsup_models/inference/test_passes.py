"""The compiled forward and backward pass against float64 numpy and against autograd, and who takes it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskstore.kernels import has_lookup, threads
from supsup_models import MaskedNetwork, infer_each, infer_task
from supsup_models.errors import ImageValueError, ShapeError
from supsup_models.inference import superposition
from supsup_models.inference.compiled import fits
from supsup_models.inference.compiled import mask_derivatives as compiled_derivatives
from supsup_models.inference.objectives import Entropy, Objective, Superfluous
from supsup_models.inference.superposition import mask_derivatives
from supsup_models.networks import MultilayerPerceptron
from tests.helpers.masks import random_matrix
from tests.helpers.modules import House
from tests.helpers.networks import network

needs_vectors = pytest.mark.skipif(not has_lookup(), reason="needs a processor with AVX-512")
seeds = st.integers(0, 2**32 - 1)
layer_sizes = st.lists(st.integers(1, 70), min_size=2, max_size=5)


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


def assert_close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=3e-5 * np.abs(expected).max())


@needs_vectors
@given(layer_sizes, st.integers(1, 80), seeds)
def test_passes_of_any_size_are_those_of_autograd(sizes: list[int], count: int, seed: int) -> None:
    model = network(sizes)
    weights, images = tensors(model, count, seed)
    objective = Superfluous(0)  # its derivative by the logits is their softmax, which rounding does little to
    assert fits(model, weights, images, objective)
    found, are_numbers = compiled_derivatives(model, weights, images, objective)
    assert are_numbers
    assert_close(found, by_autograd(model, weights, images, objective))


@needs_vectors
@pytest.mark.parametrize("objective", [Entropy(), Superfluous(10)], ids=["H", "G"])
@pytest.mark.parametrize(("sizes", "count"), [((784, 300, 100, 100), 128), ((7, 12), 1), ((50, 130, 11), 1030)])
def test_derivatives_are_those_of_autograd(
    objective: Objective, sizes: tuple[int, ...], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(sizes, classes=10)
    weights, images = tensors(model, count, 0)
    monkeypatch.setattr(threads, "CORES", 2)
    assert_close(mask_derivatives(model, weights, images, objective), by_autograd(model, weights, images, objective))


@needs_vectors
@pytest.mark.parametrize("objective", [Entropy(), Superfluous(10)], ids=["H", "G"])
def test_results_do_not_depend_on_the_number_of_cores(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network((300, 130, 70, 20))
    weights, images = tensors(model, 333, 0)
    found = []
    for cores in (1, 2, 3, 7):
        monkeypatch.setattr(threads, "CORES", cores)
        found += [mask_derivatives(model, weights, images, objective).numpy() for _ in range(5)]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@needs_vectors
def test_memory_does_not_grow_with_the_cores_for_a_few_images_of_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    from supsup_models.inference.compiled import derivatives

    monkeypatch.setattr(threads, "CORES", 64)
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
    monkeypatch.setattr(threads, "CORES", 2)
    model = network((200, 90, 30))
    cases = [tensors(model, 40 + 30 * seed, seed) for seed in range(4)]
    expected = [mask_derivatives(model, *case, Entropy()) for case in cases]
    wrong: list[int] = []

    def check(number: int) -> None:
        for _ in range(30):
            if not torch.equal(mask_derivatives(model, *cases[number], Entropy()), expected[number]):
                wrong.append(number)

    workers = [threading.Thread(target=check, args=(number,)) for number in range(len(cases))]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert wrong == []


@needs_vectors
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "CORES", 3)
    model = network((200, 90, 30))
    case = tensors(model, 100, 0)
    expected = mask_derivatives(model, *case, Entropy())
    child = os.fork()
    if not child:
        os._exit(0 if torch.equal(mask_derivatives(model, *case, Entropy()), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_objective_of_ones_own_gives_its_own_derivatives() -> None:
    class Hotter(Entropy):  # type: ignore[misc]
        def cost(self, logits: torch.Tensor) -> torch.Tensor:
            return 2 * super().cost(logits)

    model = network((9, 8, 7))
    case = tensors(model, 5, 0)
    assert not fits(model, *case, Hotter())
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


def test_networks_that_may_compute_otherwise_take_autograd() -> None:
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
        assert not fits(model, weights, images, Entropy())
        assert_close(
            mask_derivatives(model, weights, images, Entropy()), by_autograd(model, weights, images, Entropy())
        )
    model = network((6, 9, 5))
    assert fits(model, *tensors(model, 3, 0), Entropy())


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
        found, _ = compiled_derivatives(model, weights, images, objective)
        exact = logits.double().requires_grad_()
        (gradient,) = torch.autograd.grad(objective.cost(exact).mean(), exact)
        expected = gradient.float().T.reshape(-1) * model.weights
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
    for infer in (infer_task, infer_each):
        found, expected = (infer(model, matrix, x, method=method) for x in (view, images))
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
            patch.setattr(superposition, "has_lookup", lambda: False)
            plain = infer_task(model, matrix, images, method=method)
        assert fast.task == plain.task
        np.testing.assert_allclose(fast.scores, plain.scores, rtol=1e-3, atol=1e-5)


WITHOUT_THE_FOLDER = """
import sys
sys.modules["supsup_models.inference.compiled"] = None  # its import fails
import numpy as np
from maskstore import Mask, MaskMatrix
from supsup_models import MaskedNetwork, infer_task
from supsup_models.inference import superposition
model = MaskedNetwork("lenet-300-100", inputs=20, outputs=12, seed=0)
rng = np.random.default_rng(0)
matrix = MaskMatrix(model.spec, [Mask.from_flat(rng.random(model.spec.bits) < 0.5, model.spec) for _ in range(3)])
print(*infer_task(model, matrix, rng.standard_normal((8, 20))).scores.shape, superposition._COMPILED)
"""


@pytest.mark.slow
def test_inference_answers_without_the_compiled_passes() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_FOLDER], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("3 False\n", "")


def test_only_the_superposition_imports_the_compiled_passes() -> None:
    folder = "supsup_models.inference.compiled"
    importers = {
        module
        for module, items in House.of(Path(__file__).parents[3]).imports.items()
        for item in items
        if f"{item.module}.{item.name}.".startswith(f"{folder}.") and not module.startswith(folder)
    }
    assert importers == {"supsup_models.inference.superposition"}
