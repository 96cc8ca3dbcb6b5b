"""Every baseline behind the one interface, on digits: learns, forgets or not as it should, counts its bytes."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from supsup_models import TaskStream
from supsup_models.data import open_stream
from supsup_models.errors import InferenceError, NetworkError, UnknownNameError
from supsup_models.experiments.baselines import (
    PSP,
    Baseline,
    BaselineConfig,
    BatchE,
    LowerBound,
    OnlineEWC,
    SeparateHeads,
    SynapticIntelligence,
    UpperBound,
)
from supsup_models.experiments.baselines.base import initial_layers, least_uncertain
from supsup_models.experiments.baselines.comparison import compare
from supsup_models.experiments.baselines.ewc import fisher_diagonal
from supsup_models.networks import entropy

CONFIG = BaselineConfig(inputs=64, classes=10, hidden=(48, 32), steps=100, learning_rate=3e-3)
WEIGHTS = 64 * 48 + 48 * 32 + 32 * 10
VECTORS = 64 + 48 + 48 + 32 + 32 + 10
TASKS = 2
# each method, the bytes of two tasks, and a floor for its accuracy with the task given
METHODS: dict[str, tuple[Callable[[BaselineConfig], Baseline], int, float]] = {
    "upper": (UpperBound, 4 * 2 * WEIGHTS, 0.93),
    "lower": (LowerBound, 4 * WEIGHTS, 0.5),
    "heads-trained": (partial(SeparateHeads, trained_trunk=True), 4 * (WEIGHTS + 320), 0.7),
    "heads-random": (partial(SeparateHeads, trained_trunk=False), 8 + 4 * 2 * 320, 0.3),
    "batche-trained": (partial(BatchE, trained_weights=True), 4 * (WEIGHTS + 2 * VECTORS), 0.7),
    "batche-random": (partial(BatchE, trained_weights=False), 8 + 4 * 2 * VECTORS, 0.4),
    "psp": (PSP, 8 + 4 * WEIGHTS, 0.85),
    "psp-rotation": (partial(PSP, context="rotation"), 8 + 4 * WEIGHTS, 0.85),
    "ewc": (OnlineEWC, 4 * 3 * (WEIGHTS + 320), 0.8),
    "si": (SynapticIntelligence, 4 * 3 * (WEIGHTS + 320), 0.8),
}


@pytest.fixture(scope="module")
def stream() -> TaskStream:
    return open_stream("permuted-digits", tasks=TASKS)


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_and_counts_its_bytes(name: str, stream: TaskStream) -> None:
    make, expected_bytes, floor = METHODS[name]
    seen: list[int] = []
    found = compare(make(CONFIG), stream, on_task=lambda: seen.append(1))
    assert len(seen) == found.tasks == TASKS
    assert found.bytes == expected_bytes
    assert floor < found.GG
    assert found.seconds > 0
    if found.GNs is not None and found.GNu is not None:
        assert found.GNu <= found.GNs
    else:
        assert name == "lower"


@pytest.mark.slow
def test_two_of_a_kind_learn_the_same(stream: TaskStream) -> None:
    images = stream[0].test.images(slice(0, 50))
    for make, _, _ in METHODS.values():
        one, other = make(CONFIG), make(CONFIG)
        one.fit(stream[0])
        other.fit(stream[0])
        assert np.array_equal(one.predict(images, 0)[1], other.predict(images, 0)[1])


def test_the_lower_bound_forgets_what_the_others_keep(stream: TaskStream) -> None:
    kept, lost = UpperBound(CONFIG), LowerBound(CONFIG)
    task = stream[0]
    images, labels = task.test.images(slice(0, 360)), task.test.labels.numpy()
    for each in (kept, lost):
        for one in stream:
            each.fit(one)
    assert (kept.predict(images, 0)[1] == labels).mean() > (lost.predict(images, 0)[1] == labels).mean() + 0.1


def test_contexts_are_orthogonal_and_differ() -> None:
    for layer in PSP(CONFIG, context="rotation").contexts(3):
        torch.testing.assert_close(layer @ layer.T, torch.eye(len(layer)), atol=1e-5, rtol=0)
    binary = PSP(CONFIG)
    assert all(set(context.tolist()) == {-1.0, 1.0} for context in binary.contexts(0))
    assert not torch.equal(binary.contexts(0)[0], binary.contexts(1)[0])


def test_one_shot_of_batche_is_the_derivative(stream: TaskStream) -> None:
    """Against numbers: the cost of the explicit mixture of weights, moved a little along each alpha."""
    network = BatchE(CONFIG, trained_weights=False, method="one-shot")
    for task in stream:
        network.fit(task)
    images = stream[0].test.images(slice(0, 3))

    def cost(alpha: torch.Tensor) -> torch.Tensor:
        activation = images.double()
        for index, weight in enumerate(network._weights):
            scale = sum(a * torch.outer(*task[index]).double() for a, task in zip(alpha, network._vectors, strict=True))
            activation = activation @ (weight.double() * scale).T
            activation = torch.relu(activation) if index < 2 else activation
        return entropy(activation)

    found = network.one_shot(images)
    for task in range(TASKS):
        step = torch.zeros(TASKS, dtype=torch.float64)
        step[task] = 1e-6
        middle = torch.full((TASKS,), 0.5, dtype=torch.float64)
        expected = -(cost(middle + step) - cost(middle - step)) / 2e-6
        torch.testing.assert_close(found[:, task].double(), expected, rtol=1e-3, atol=1e-4)


def test_fisher_is_the_expected_square_of_the_gradient() -> None:
    config = BaselineConfig(inputs=5, classes=3, hidden=(4,))
    layers = [layer.requires_grad_() for layer in initial_layers(config)]
    images = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = fisher_diagonal(layers, images)
    expected = [torch.zeros_like(layer) for layer in layers]
    for image in images:
        log_p = torch.log_softmax(torch.relu(image @ layers[0].T) @ layers[1].T, dim=0)
        for answer in range(3):
            gradients = torch.autograd.grad(log_p[answer], layers, retain_graph=True)
            for total, gradient in zip(expected, gradients, strict=True):
                total += log_p[answer].exp().detach() * gradient**2 / len(images)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_least_uncertain_task_is_chosen() -> None:
    logits = torch.tensor([[[5.0, 0.0], [0.1, 0.0]], [[0.0, 0.2], [0.0, 9.0]]])  # (tasks, images, classes)
    tasks, labels = least_uncertain(logits)
    assert (tasks.tolist(), labels.tolist()) == ([0, 1], [0, 1])


def test_what_cannot_be_done_is_refused(stream: TaskStream) -> None:
    images = stream[0].test.images(slice(0, 2))
    with pytest.raises(InferenceError, match="call fit first"):
        UpperBound(CONFIG).predict(images)
    lower = LowerBound(CONFIG)
    lower.fit(stream[0])
    with pytest.raises(InferenceError, match="cannot find it"):
        lower.predict(images)
    with pytest.raises(InferenceError, match=r"range\(1\)"):
        lower.predict(images, 1)
    with pytest.raises(NetworkError, match="64"):
        UpperBound(BaselineConfig(inputs=9, classes=10)).fit(stream[0])
    with pytest.raises(NetworkError, match="at least 1"):
        BaselineConfig(inputs=9, classes=0)
    with pytest.raises(UnknownNameError, match="did you mean 'binary'"):
        PSP(CONFIG, context="binery")
    with pytest.raises(UnknownNameError):
        BatchE(CONFIG, trained_weights=True, method="two-shot")
    with pytest.raises(InferenceError, match="strength above 0"):
        OnlineEWC(CONFIG, strength=0)
