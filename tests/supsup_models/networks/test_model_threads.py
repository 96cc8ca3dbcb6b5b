"""Many callers of one model: threads, processes, blocks and pools get what one caller gets, or a named error."""

import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from torch import nn

from maskstore import MaskMatrix
from supsup_models import MaskedNetwork, convert, infer_task
from supsup_models.errors import MethodWarning, MissingMaskError
from tests.helpers.model_checks import (
    MASKS,
    SUBJECTS,
    called,
    expected,
    exported,
    leaks,
    subject,
    ways_of,
    wrong_in_processes,
    wrong_in_threads,
    wrong_in_workers,
)


@pytest.mark.parametrize("name", SUBJECTS)
def test_threads_get_what_one_gets(name: str) -> None:
    model = subject(name)
    found: list[int] = []
    for way in ways_of(model).values():
        assert leaks(model, lambda way=way: found.append(wrong_in_threads(model, way, calls=16))) == []
    assert not any(found)


def test_the_check_can_fail() -> None:
    """Masks that are set on a module, as they are not here, mix in threads."""
    shared = subject("converted perceptron")
    module = shared.model.export(shared.masks[0])
    plain = [shared.model.export(mask).state_dict() for mask in shared.masks]
    barrier = threading.Barrier(2)

    def set_and_run(_: object, mask: int) -> torch.Tensor:
        module.load_state_dict(plain[mask])
        barrier.wait(timeout=10)
        return module(shared.inputs)

    assert wrong_in_threads(shared, set_and_run, threads=2, calls=4) > 0


@pytest.mark.parametrize("name", SUBJECTS)
def test_masks_differ_and_every_way_is_the_exported_module(name: str) -> None:
    model = subject(name)
    right = expected(model)
    assert len({tuple(answers.flatten().tolist()) for answers in right}) == MASKS
    with torch.no_grad():
        for mask in range(MASKS):
            for way in (*ways_of(model).values(), exported):
                torch.testing.assert_close(way(model, mask), right[mask], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SUBJECTS)
def test_served_masks_in_threads(name: str) -> None:
    model = subject(name)
    server = model.served()
    assert wrong_in_threads(model, lambda _, mask: server(model.inputs.flatten(1), str(mask)), calls=16) == 0


@pytest.mark.parametrize("name", SUBJECTS)
def test_tasks_are_inferred_in_threads(name: str) -> None:
    model = subject(name)
    matrix = MaskMatrix(model.model.spec)
    for number, mask in enumerate(model.masks):
        matrix.append(str(number), mask)
    extras = {str(number): own for number, own in enumerate(model.extras) if own is not None}
    images = model.inputs.flatten(1)

    def infer(method: str) -> list[float]:
        return infer_task(model.model, matrix, images, method=method, extras=extras).scores.tolist()

    methods = ["one-shot", "exhaustive", "binary"]
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("ignore", MethodWarning)
        right = [infer(method) for method in methods]
        assert list(pool.map(infer, methods * 8)) == right * 8


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "fork", "forkserver"])
def test_processes_get_what_one_gets(start: str) -> None:
    assert wrong_in_processes(tuple(SUBJECTS), start=start) == 0
    if start == "spawn":  # the default on macOS and Windows
        assert wrong_in_workers("converted CNN with batch norm", start=start) == 0


@pytest.mark.parametrize("name", SUBJECTS)
def test_copies_and_pickles_are_models_of_their_own(name: str) -> None:
    model = subject(name)
    right = expected(model)
    for other in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(called(other, 3), right[3])
        other.model.weights.zero_()
    assert torch.equal(called(model, 3), right[3])


def test_a_block_holds_for_its_own_thread_and_model() -> None:
    shared = subject("converted CNN with batch norm")
    model, right = shared.model, expected(shared)
    with model.apply_mask(shared.masks[2], shared.extras[2]), ThreadPoolExecutor(1) as pool:
        with pytest.raises(MissingMaskError, match="expected a mask"):
            pool.submit(model, shared.inputs).result()
        with pytest.raises(MissingMaskError):
            deepcopy(model)(shared.inputs)
        bound = model.bind(shared.masks[3], shared.extras[3])
        assert torch.equal(pool.submit(bound, shared.inputs).result(), right[3])
        assert torch.equal(pool.submit(called, shared, 1).result(), right[1])
        assert torch.equal(model(shared.inputs), right[2])


def test_training_in_one_thread_leaves_the_calls_of_others_alone() -> None:
    class Noisy(nn.Sequential):
        """Dropout and batch normalisation: what differs most between training and use."""

    model = convert(Noisy(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)), image_shape=(6,))
    mask, extras = model.mask_of(model.initial_scores(0)), model.initial_statistics()
    inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    scores = model.initial_scores(1)

    def train(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        statistics = model.initial_statistics()
        with model.training_mode(step):
            return model.run_with(inputs, model.effective_weights(scores), statistics), statistics["1.running_mean"]

    right, steps = model(inputs, mask, extras=extras), [train(step) for step in range(8)]
    with ThreadPoolExecutor(4) as pool:
        with model.training_mode(0):
            assert torch.equal(pool.submit(model, inputs, mask, extras=extras).result(), right)
        jobs = [pool.submit(train, step) for step in range(8)]
        calls = [pool.submit(model, inputs, mask, extras=extras) for _ in range(40)]
        for job, step in zip(jobs, steps, strict=True):
            assert all(map(torch.equal, job.result(), step))
        assert all(torch.equal(call.result(), right) for call in calls)
    assert not model.training


def test_an_interrupted_call_leaves_nothing_behind() -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.interrupt = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            if self.interrupt:
                raise KeyboardInterrupt
            return self.second(y)

    model = convert(Interrupted())
    mask, inputs = model.mask_of(model.initial_scores(0)), torch.ones(2, 4)
    before = dict(model.state_dict())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            model(inputs, mask)
        with pytest.raises(KeyboardInterrupt), model.training_mode(0):
            model(inputs, mask)
    assert model.state_dict().keys() == before.keys()
    assert not any(part.training for part in model.modules())
    model.module.interrupt = False
    assert torch.equal(model(inputs, mask), model.export(mask)(inputs))


def test_replicas_of_a_model_run_under_the_mask_they_are_given() -> None:
    """As `DataParallel` makes them: shallow copies that share the modules inside."""
    shared = subject("converted CNN with batch norm")
    right = expected(shared)
    replica = shared.model._replicate_for_data_parallel()
    replica.module = shared.model.module
    parallel = nn.DataParallel(shared.model)
    for other in (replica, parallel):
        assert torch.equal(other(shared.inputs, shared.masks[4], extras=shared.extras[4]), right[4])
    with shared.model.apply_mask(shared.masks[4], shared.extras[4]), pytest.raises(MissingMaskError):
        replica(shared.inputs)


def test_networks_without_a_mask_are_refused_everywhere() -> None:
    network = subject("MaskedNetwork").model
    assert isinstance(network, MaskedNetwork)
    with ThreadPoolExecutor(2) as pool, pytest.raises(MissingMaskError):
        list(pool.map(network, [torch.ones(1, 20)] * 2))
