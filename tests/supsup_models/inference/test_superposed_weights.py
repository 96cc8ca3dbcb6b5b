"""What inference keeps between batches: made anew when its sources have changed, and freed with the matrix."""

from weakref import ref

import pytest
import torch

from maskstore import MaskMatrix
from supsup_models import TaskInference, infer_each, infer_task
from supsup_models.inference import superposition
from supsup_models.inference.superposition import Superposition, expected_weights
from tests.helpers.masks import random_matrix
from tests.helpers.networks import network


def test_superposed_weights_are_kept_for_the_same_masks_only() -> None:
    model = network((6, 9, 5))
    matrix = random_matrix(model.spec, 2)
    mixed = Superposition(model, matrix)
    found = mixed.weights()
    assert found is mixed.weights()
    torch.testing.assert_close(found, torch.from_numpy(matrix.mean()) * model.weights)
    matrix.append("another", random_matrix(model.spec, 1)[0])
    torch.testing.assert_close(mixed.weights(), torch.from_numpy(matrix.mean()) * model.weights)
    model.double()
    assert mixed.weights().dtype == torch.float64


def test_superposed_weights_follow_weights_that_change() -> None:
    model, sparse = network((6, 9, 5)), network((6, 9, 5), densities=(0.3, 0.4))
    matrix = random_matrix(model.spec, 3)
    mixed, of_sparse = Superposition(model, matrix), Superposition(sparse, matrix)
    mean = torch.from_numpy(matrix.mean())
    torch.testing.assert_close(mixed.weights(), mean * model.weights)
    model.weights.mul_(2)
    torch.testing.assert_close(mixed.weights(), mean * model.weights)
    model.weights.data = torch.full_like(model.weights, 3.0)
    torch.testing.assert_close(mixed.weights(), mean * 3)
    model.weights = torch.full_like(model.weights, 4.0)
    torch.testing.assert_close(mixed.weights(), mean * 4)
    assert of_sparse.weights() is of_sparse.weights()
    sparse.densities = (0.5, 0.5)
    torch.testing.assert_close(of_sparse.weights(), sparse.weights / 2)


@pytest.mark.parametrize("densities", [None, (0.5, 0.4, 0.3)])
def test_superposed_weights_are_kept_while_they_hold(densities) -> None:
    model = network((12, 17, 9, 8), densities=densities)
    matrix = random_matrix(model.spec, 3)
    mixed = Superposition(model, matrix)

    def check() -> torch.Tensor:
        found = mixed.weights()
        mean = torch.from_numpy(matrix.mean()) if densities is None else expected_weights(model) / model.weights
        torch.testing.assert_close(found, mean * model.weights)
        return found

    first = check()
    assert check() is first
    matrix.append("new", matrix[0])
    assert (check() is first) == (densities is not None)  # given densities know of no mask
    model.weights.mul_(2.0)
    check()
    model.weights = model.weights.clone() * 3
    check()
    with torch.inference_mode():
        model.weights = model.weights * 2
        check()
        model.weights.mul_(2.0)
        check()


def test_calls_in_a_row_compute_the_superposed_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = superposition.superposed_weights
    monkeypatch.setattr(superposition, "superposed_weights", lambda *about: made.append(about) or plain(*about))
    model = network((6, 9, 5))
    matrix, images = random_matrix(model.spec, 3), torch.randn(4, 6)
    for _ in range(3):
        infer_task(model, matrix, images)
        infer_each(model, matrix, images)
    assert len(made) == 1
    inference = TaskInference(model, matrix)
    for _ in range(3):
        inference.infer(images, method="binary")
    infer_task(model, matrix, images)
    assert len(made) == 2  # an inference has its own, and leaves those of the calls alone
    for other in (network((6, 9, 5)), model):
        infer_task(other, matrix, images)
    assert len(made) == 4  # only those of the last network are kept


def test_nothing_that_is_kept_holds_the_matrix_or_the_network() -> None:
    model = network((6, 9, 5))
    matrix = random_matrix(model.spec, 3)
    infer_task(model, matrix, torch.randn(4, 6))
    gone = ref(matrix), ref(model)
    del matrix, model
    assert [each() for each in gone] == [None, None]


class OnCuda:
    """A network that says it is on a CUDA device."""

    device = torch.device("cuda", 0)


def test_a_matrix_is_copied_to_its_device_once_and_not_held_there(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []

    class Copy:
        """Masks on a device; those of a selection do not know the matrix."""

        device = OnCuda.device

        def __init__(self, count: int, matrix: MaskMatrix | None) -> None:
            self.count, self.matrix = count, matrix

        @classmethod
        def of(cls, matrix: MaskMatrix, device: torch.device) -> "Copy":
            copies.append(len(matrix))
            return cls(len(matrix), matrix)

        def select(self, rows: range) -> "Copy":
            return Copy(len(rows), None)

        def __len__(self) -> int:
            return self.count

    monkeypatch.setattr(superposition, "PackedMasks", Copy)
    matrix = random_matrix(network((6, 9, 5)).spec, 3)
    mixed = Superposition(OnCuda(), matrix)
    assert mixed.masks is mixed.masks
    matrix.append("new", matrix[0])
    assert len(mixed.masks) == 4
    assert copies == [3, 4]
    kept, gone = mixed.kept, ref(matrix)
    del mixed, matrix
    assert len(kept.masks) == 4
    assert gone() is None
