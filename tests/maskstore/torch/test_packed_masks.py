"""Packed masks in torch: all backends give the same numbers; Triton does so in its interpreter, in another process."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from maskstore import Mask, MaskMatrix, MaskSpec
from maskstore.errors import DeviceError, MaskValueError
from maskstore.torch import Backend, PackedMasks
from tests.helpers.commands import in_fresh_process
from tests.helpers.masks import random_matrix

SPEC = MaskSpec({"fc1": (7, 30), "fc2": (5, 64), "fc3": (3, 3)})
ON_THE_CPU = [Backend.MATRIX, Backend.TORCH]


def _check(spec: MaskSpec, k: int, device: str, backend: Backend | None) -> None:
    """All that packed masks compute, against the dense masks in float64."""
    matrix, rng = random_matrix(spec, k), np.random.default_rng(1)
    dense = np.stack([matrix[row].flat() for row in range(k)]).astype(np.float64)
    chosen = [k - 1, *range(k // 2)]
    masks = PackedMasks.of(matrix, device, backend=backend)
    for made, expected in ((masks, dense), (masks.select(chosen), dense[chosen])):
        assert len(made) == len(expected)
        assert made.device == masks.device
        for shape in ((), (3,)):
            g, alpha = rng.standard_normal((*shape, spec.bits)), rng.standard_normal((*shape, len(expected)))
            products = made.dot(torch.from_numpy(g).to(device))
            sums = made.weighted_sum(torch.from_numpy(alpha).to(device))
            assert products.dtype == sums.dtype == torch.float32
            np.testing.assert_allclose(products.cpu(), g @ expected.T, rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose(sums.cpu(), alpha @ expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(made.mean().cpu(), expected.mean(axis=0), rtol=1e-5)
        for index in (0, spec.bits // 2, spec.bits - 1):
            np.testing.assert_array_equal(made.column(index).cpu(), expected[:, index])


@pytest.mark.parametrize("backend", ON_THE_CPU)
@pytest.mark.parametrize("k", [1, 2, 16, 17, 40])
def test_every_backend_computes_with_the_dense_masks(k: int, backend: Backend) -> None:
    _check(SPEC, k, "cpu", backend)
    _check(MaskSpec({"fc1": (300, 250)}), k, "cpu", backend)


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_masks_that_are_appended_are_seen(backend: Backend) -> None:
    matrix = random_matrix(SPEC, 3)
    masks = PackedMasks.of(matrix, backend=backend)
    two = masks.select([0, 1])
    before = masks.mean()
    assert masks.mean() is before
    copy = 8 * SPEC.words * (backend is Backend.TORCH)
    assert masks.nbytes == 3 * copy
    matrix.append("new", Mask.from_flat(np.ones(SPEC.bits, dtype=np.bool_), SPEC))
    assert (len(masks), len(two), masks.nbytes) == (4, 2, 4 * copy)
    assert masks.dot(torch.ones(SPEC.bits))[3] == SPEC.bits
    np.testing.assert_allclose(masks.mean(), matrix.mean(), rtol=1e-6)
    np.testing.assert_allclose(before * 3, masks.mean() * 4 - 1, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_what_does_not_fit_is_refused(backend: Backend) -> None:
    masks = PackedMasks.of(random_matrix(SPEC, 3), backend=backend)
    with pytest.raises(MaskValueError, match="flat tensor"):
        masks.dot(torch.zeros(5))
    with pytest.raises(MaskValueError, match="flat tensor"):
        masks.dot(torch.zeros(1, 1, SPEC.bits))
    with pytest.raises(MaskValueError, match=r"weights of shape \(3,\)"):
        masks.weighted_sum(torch.zeros(4))
    for index in (-1, SPEC.bits):
        with pytest.raises(MaskValueError, match=f"found {index}"):
            masks.column(index)
    with pytest.raises(MaskValueError, match="at least one mask"):
        PackedMasks.of(MaskMatrix(SPEC), backend=backend).mean()


def test_the_backend_follows_the_device() -> None:
    matrix = random_matrix(SPEC, 2)
    assert PackedMasks.of(matrix).backend is Backend.MATRIX
    assert PackedMasks.of(matrix, "meta").backend is Backend.TORCH
    with pytest.raises(DeviceError, match="expected the device cpu, found meta"):
        PackedMasks.of(matrix, "meta", backend=Backend.MATRIX)
    with pytest.raises(DeviceError, match="one that torch can use here"):
        PackedMasks.of(matrix, "no such device")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")
def test_triton_kernels_in_the_interpreter_equal_the_matrix() -> None:
    """Triton reads TRITON_INTERPRET when it is imported, so the kernels run in a fresh process."""
    code = (
        "from tests.maskstore.torch.test_packed_masks import SPEC, _check\n"
        "from maskstore import MaskSpec\n"
        "from maskstore.torch import Backend\n"
        "for k in (1, 17): _check(SPEC, k, 'cpu', Backend.TRITON)\n"
        "_check(MaskSpec({'fc1': (130, 260)}), 18, 'cpu', Backend.TRITON)\n"
    )
    done = in_fresh_process(code, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.TRITON])
def test_packed_masks_on_a_gpu_equal_the_matrix(backend: Backend) -> None:
    if backend is Backend.TRITON and find_spec("triton") is None:
        pytest.skip("needs the package triton")
    _check(SPEC, 17, "cuda", backend)
    _check(MaskSpec({"fc1": (300, 784), "fc2": (100, 300)}), 70, "cuda", backend)
