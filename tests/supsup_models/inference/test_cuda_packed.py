"""Packed rows on a device: torch here, the Triton kernels in Triton's interpreter in a process of its own."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from maskstore import MaskSpec
from maskstore.errors import MaskValueError
from maskstore.torch import PackedRows
from tests.helpers.commands import in_fresh_process
from tests.helpers.masks import random_matrix

SPEC = MaskSpec({"fc1": (7, 30), "fc2": (5, 64), "fc3": (3, 3)})


def _check(spec: MaskSpec, k: int, device: str, triton: bool | None) -> None:
    matrix, rng = random_matrix(spec, k), np.random.default_rng(1)
    rows = PackedRows.of(matrix, device)
    g = rng.standard_normal(spec.bits).astype(np.float32)
    alpha = rng.standard_normal(k).astype(np.float32)
    dot = rows.dot(torch.from_numpy(g).to(device), triton=triton).cpu()
    mixed = rows.weighted_sum(torch.from_numpy(alpha).to(device), triton=triton).cpu()
    np.testing.assert_allclose(dot, matrix.dot(g), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(mixed, matrix.weighted_sum(alpha), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 16, 17, 40])
def test_the_torch_fallback_equals_the_matrix(k: int) -> None:
    _check(SPEC, k, "cpu", None)
    _check(MaskSpec({"fc1": (300, 250)}), k, "cpu", False)


def test_sizes_that_do_not_fit_packed_rows_are_refused() -> None:
    rows = PackedRows.of(random_matrix(SPEC, 3), "cpu")
    assert len(rows) == 3
    with pytest.raises(MaskValueError, match="flat tensor"):
        rows.dot(torch.zeros(5))
    with pytest.raises(MaskValueError, match="3 weights"):
        rows.weighted_sum(torch.zeros(4))


@pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")
def test_triton_kernels_in_the_interpreter_equal_the_matrix() -> None:
    """Triton reads TRITON_INTERPRET when it is imported, so the kernels run in a fresh process."""
    code = (
        "from tests.supsup_models.inference.test_cuda_packed import SPEC, _check\n"
        "from maskstore import MaskSpec\n"
        "for k in (1, 17): _check(SPEC, k, 'cpu', True)\n"
        "_check(MaskSpec({'fc1': (130, 260)}), 18, 'cpu', True)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    done = in_fresh_process(code, TRITON_INTERPRET="1", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("triton", [False, True])
def test_packed_rows_on_a_gpu_equal_the_matrix(triton: bool) -> None:
    if triton and find_spec("triton") is None:
        pytest.skip("needs the package triton")
    _check(SPEC, 17, "cuda", triton)
    _check(MaskSpec({"fc1": (300, 784), "fc2": (100, 300)}), 70, "cuda", triton)
