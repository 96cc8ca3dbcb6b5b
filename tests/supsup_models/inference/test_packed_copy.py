"""Task inference over a packed copy of the masks, as on a device: the answers of the host's matrix."""

import numpy as np
import pytest
import torch

from maskstore import Mask, MaskMatrix
from maskstore.torch import Backend, PackedMasks
from supsup_models import MaskedNetwork, infer_each, infer_task
from supsup_models.errors import ImageValueError, ImageValueWarning
from supsup_models.inference import superposition
from supsup_models.inference.superposition import Superposition
from tests.helpers.masks import random_matrix
from tests.helpers.networks import network

METHODS = ("one-shot", "binary", "gradient", "short-list")


@pytest.fixture(scope="module")
def model() -> MaskedNetwork:
    return network((12, 17, 9, 8), classes=5)


class Copy(PackedMasks):
    """A copy, with torch's operations on the CPU."""

    @classmethod
    def of(cls, matrix: MaskMatrix, device: torch.device | str = "cpu", **options) -> PackedMasks:
        return PackedMasks.of(matrix, device, backend=Backend.TORCH)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize("k", [1, 2, 9])
def test_a_packed_copy_gives_the_answers_of_the_matrix(
    method: str, objective: str, k: int, model: MaskedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = random_matrix(model.spec, k)
    images = torch.randn(10, 12, generator=torch.Generator().manual_seed(1))
    expected = infer_task(model, matrix, images, method=method, objective=objective)
    monkeypatch.setattr(superposition, "PackedMasks", Copy)
    assert Superposition(model, matrix).masks.backend is Backend.TORCH
    found = infer_task(model, matrix.select(range(k)), images, method=method, objective=objective)
    assert found.task == expected.task
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", [*METHODS, "exhaustive"])
@pytest.mark.parametrize("infer", [infer_task, infer_each])
def test_images_that_overflow_the_network_are_refused(method: str, infer, model: MaskedNetwork) -> None:
    empty = Mask.from_flat(np.zeros(model.spec.bits, dtype=np.bool_), model.spec)
    full = Mask.from_flat(np.ones(model.spec.bits, dtype=np.bool_), model.spec)
    signs = torch.randint(0, 2, (2, 12), generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = 3e38 * signs
    for matrix in (MaskMatrix(model.spec, [full, empty]), MaskMatrix(model.spec, [full, full])):
        answers = pytest.raises(ImageValueError, match="found NaN in its answers")
        with pytest.warns(ImageValueWarning, match="without signs"), answers:
            infer(model, matrix, images, method=method)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_inference_on_a_gpu_equals_that_on_the_host(method: str, model: MaskedNetwork) -> None:
    matrix = random_matrix(model.spec, 20)
    images = torch.randn(10, 12, generator=torch.Generator().manual_seed(1))
    expected = infer_task(model, matrix, images, method=method)
    on_device = MaskedNetwork(model.architecture, inputs=12, outputs=8, classes=5, seed=0).to("cuda")
    assert Superposition(on_device, matrix).masks.device.type == "cuda"
    found = infer_task(on_device, matrix, images, method=method)
    assert found.task == expected.task
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-4)


def test_the_mean_kept_for_a_matrix_follows_its_rows(model: MaskedNetwork) -> None:
    matrix = random_matrix(model.spec, 4)
    images = torch.randn(10, 12, generator=torch.Generator().manual_seed(1))
    infer_task(model, matrix, images)
    matrix.append("one more", Mask.from_flat(np.arange(model.spec.bits) % 3 == 0, model.spec))
    anew = MaskMatrix(model.spec, [matrix[row] for row in range(5)])
    np.testing.assert_array_equal(infer_task(model, matrix, images).scores, infer_task(model, anew, images).scores)
