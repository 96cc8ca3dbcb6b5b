"""Budgets of edge-popup layers against values worked out by hand, and the masks they lead to."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskstore import Mask, MaskSpec
from supsup_models import erdos_renyi, layer_densities, mask_densities
from supsup_models.errors import SparsityError, UnknownNameError
from supsup_models.networks.score_masks import edge_popup
from supsup_models.networks.sparsity import SPARSITIES, kept_weights

SHAPES = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}


def test_uniform_densities_are_all_the_same() -> None:
    assert layer_densities(SHAPES, "uniform", 0.25) == {"fc1": 0.25, "fc2": 0.25, "fc3": 0.25}


def test_erdos_renyi_at_a_given_epsilon() -> None:
    # 20 * 1084 / 235200, 20 * 400 / 30000, and 20 * 110 / 1000 = 2.2, which the cap brings to one half
    found = erdos_renyi(SHAPES, epsilon=20)
    assert found == pytest.approx({"fc1": 0.0921768707, "fc2": 0.2666666667, "fc3": 0.5})


def test_kernel_sizes_count_in_erk_only() -> None:
    shapes = {"conv": (20, 10, 3, 3)}
    assert erdos_renyi(shapes, epsilon=1, kernel=True, cap=1) == {"conv": pytest.approx(36 / 1800)}
    assert erdos_renyi(shapes, epsilon=1, cap=1) == {"conv": pytest.approx(30 / 200)}


def test_er_shares_out_a_total_density() -> None:
    # 0.1 of 266 200 weights is 26 620. fc3 would get ε 110 / 1000 > 1/2 of its weights with ε = 26620 / 1594, so it has
    # 500 of its 1000, and ε = 26120 / 1484 = 17.601078 for the others.
    found = layer_densities(SHAPES, "er", 0.1)
    assert found["fc3"] == 0.5
    assert found["fc1"] == pytest.approx(17.601078 * 1084 / 235200, rel=1e-6)
    assert found["fc2"] == pytest.approx(17.601078 * 400 / 30000, rel=1e-6)


def test_erk_shares_out_a_total_density() -> None:
    # densities in the ratio (8+4+3+3)/288 : (16+8)/128 = 1 : 3, sizes 288 and 128: ε' (288 + 3 * 128) = 0.2 * 416
    found = layer_densities({"conv": (8, 4, 3, 3), "fc": (16, 8)}, "erk", 0.2)
    assert found == pytest.approx({"conv": 83.2 / 672, "fc": 3 * 83.2 / 672})


@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3)), min_size=1, max_size=6),
    sparsity=st.sampled_from(SPARSITIES),
    share=st.floats(0.01, 1),
)
def test_budgets_hold_the_total_and_the_cap(sizes: list[tuple[int, int, int]], sparsity: str, share: float) -> None:
    shapes = {str(index): size for index, size in enumerate(sizes)}
    cap = 0.5 if sparsity in ("er", "equal") else 1.0
    densities = layer_densities(shapes, sparsity, share * cap)
    total = sum(math.prod(shape) for shape in shapes.values())
    kept = sum(math.prod(shapes[name]) * density for name, density in densities.items())
    assert kept == pytest.approx(share * cap * total, rel=1e-6)
    assert all(0 < density <= cap for density in densities.values())


@pytest.mark.parametrize("density", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_densities_out_of_range_are_refused(density: float) -> None:
    for sparsity in SPARSITIES:
        with pytest.raises(SparsityError, match=r"expected a number in \(0, 1\]"):
            layer_densities(SHAPES, sparsity, density)


def test_other_bad_budgets_are_refused() -> None:
    with pytest.raises(SparsityError, match=r"at most the cap 0\.5 of er layers, found 0\.6"):
        layer_densities(SHAPES, "er", 0.6)
    with pytest.raises(SparsityError, match="positive"):
        erdos_renyi(SHAPES, epsilon=0)
    with pytest.raises(UnknownNameError, match="expected one of uniform, er, erk"):
        layer_densities(SHAPES, "erkk", 0.5)


def test_kept_weights_are_at_least_one() -> None:
    assert [kept_weights(10, density) for density in (0.001, 0.26, 1.0)] == [1, 3, 10]


def test_edge_popup_keeps_the_largest_scores_of_each_layer() -> None:
    scores = torch.tensor([0.1, -0.5, 0.3, -0.2, 5.0, 4.0, -9.0], requires_grad=True)
    mask = edge_popup(scores, (slice(0, 4), slice(4, 7)), (2, 1))
    assert mask.tolist() == [0, 1, 1, 0, 0, 0, 1]
    upstream = torch.arange(1.0, 8.0)
    mask.backward(upstream)
    assert scores.grad is not None
    assert scores.grad.tolist() == [1, -2, 3, -4, 5, 6, -7]  # raising |s| is what raises the mask


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=30), share=st.floats(0.01, 1))
def test_edge_popup_keeps_exactly_its_budget_even_where_scores_are_equal(values: list[int], share: float) -> None:
    scores = torch.tensor(values, dtype=torch.float32)
    kept = kept_weights(len(values), share)
    mask = edge_popup(scores, (slice(0, len(values)),), (kept,))
    expected = np.zeros(len(values))
    expected[np.argsort(-np.abs(values), kind="stable")[:kept]] = 1  # of equal ones the earlier
    assert np.array_equal(mask.numpy(), expected)


def test_densities_of_a_mask_by_layer() -> None:
    spec = MaskSpec({"a": (2, 2), "b": (70,), "empty": (0, 3)})
    mask = Mask.from_flat(np.arange(74) % 2 == 0, spec)
    assert mask_densities(mask) == {"a": 0.5, "b": 0.5, "empty": 0.0}
