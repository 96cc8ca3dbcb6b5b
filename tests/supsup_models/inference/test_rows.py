"""Task inference over packed rows on a device: the answers of the host's matrix, and one copy for many calls."""

import numpy as np
import pytest
import torch

from maskstore import Mask, MaskMatrix
from maskstore.torch import Backend, PackedMasks
from supsup_models import MaskedNetwork, infer_task
from supsup_models.errors import ImageValueError
from supsup_models.inference import rows
from supsup_models.inference.rows import rows_of
from supsup_models.networks import MaskedModel
from tests.helpers.masks import random_matrix
from tests.helpers.networks import network

METHODS = ("one-shot", "binary", "gradient", "short-list")


@pytest.fixture(scope="module")
def model() -> MaskedNetwork:
    return network((12, 17, 9, 8), classes=5)


def on_a_device(model: MaskedModel, matrix: MaskMatrix) -> PackedMasks:
    """As on CUDA, with torch's operations on the CPU."""
    return PackedMasks.of(matrix, model.device, backend=Backend.TORCH)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize("k", [1, 2, 9])
def test_packed_rows_give_the_answers_of_the_matrix(
    method: str, objective: str, k: int, model: MaskedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = random_matrix(model.spec, k)
    images = torch.randn(10, 12, generator=torch.Generator().manual_seed(1))
    expected = infer_task(model, matrix, images, method, objective)
    asked: list[int] = []

    def watched(model: MaskedModel, matrix: MaskMatrix) -> PackedMasks:
        asked.append(len(matrix))
        return on_a_device(model, matrix)

    for module in ("infer", "methods.gradient"):
        monkeypatch.setattr(f"supsup_models.inference.{module}.rows_of", watched)
    found = infer_task(model, matrix, images, method, objective)
    assert asked == [k]
    assert found.task == expected.task
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-5)


class OnCuda:
    """A network that says it is on a CUDA device, for the choice of rows alone."""

    device = torch.device("cuda", 0)


def test_a_matrix_is_copied_to_its_device_once(model: MaskedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[MaskMatrix] = []

    class Copy:
        def __init__(self, matrix: MaskMatrix, device: torch.device) -> None:
            self.device = device
            made.append(matrix)

        @classmethod
        def of(cls, matrix: MaskMatrix, device: torch.device) -> "Copy":
            return cls(matrix, device)

    matrix, other, on_cuda = random_matrix(model.spec, 3), random_matrix(model.spec, 3), OnCuda()
    assert rows_of(model, matrix).backend is Backend.MATRIX
    monkeypatch.setattr(rows, "PackedMasks", Copy)
    assert rows_of(on_cuda, matrix) is rows_of(on_cuda, matrix)
    assert rows_of(on_cuda, other).device == on_cuda.device
    assert made == [matrix, other]


@pytest.mark.parametrize("method", [*METHODS, "exhaustive"])
@pytest.mark.parametrize("per_image", [False, True])
def test_images_that_overflow_the_network_are_refused(method: str, per_image: bool, model: MaskedNetwork) -> None:
    empty = Mask.from_flat(np.zeros(model.spec.bits, dtype=np.bool_), model.spec)
    full = Mask.from_flat(np.ones(model.spec.bits, dtype=np.bool_), model.spec)
    signs = torch.randint(0, 2, (2, 12), generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = 3e38 * signs
    for matrix in (MaskMatrix(model.spec, [full, empty]), MaskMatrix(model.spec, [full, full])):
        with pytest.raises(ImageValueError, match="found NaN in its answers"):
            infer_task(model, matrix, images, method, per_image=per_image)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_inference_on_a_gpu_equals_that_on_the_host(method: str, model: MaskedNetwork) -> None:
    matrix = random_matrix(model.spec, 20)
    images = torch.randn(10, 12, generator=torch.Generator().manual_seed(1))
    expected = infer_task(model, matrix, images, method)
    on_device = MaskedNetwork(model.architecture, inputs=12, outputs=8, classes=5, seed=0).to("cuda")
    assert rows_of(on_device, matrix).device.type == "cuda"
    found = infer_task(on_device, matrix, images, method)
    assert found.task == expected.task
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-4)


def test_the_mean_kept_for_a_matrix_follows_its_rows(model: MaskedNetwork) -> None:
    matrix = random_matrix(model.spec, 4)
    images = torch.randn(10, 12, generator=torch.Generator().manual_seed(1))
    infer_task(model, matrix, images)
    matrix.append("one more", Mask.from_flat(np.arange(model.spec.bits) % 3 == 0, model.spec))
    anew = MaskMatrix(model.spec, [matrix[row] for row in range(5)])
    np.testing.assert_array_equal(infer_task(model, matrix, images).scores, infer_task(model, anew, images).scores)
