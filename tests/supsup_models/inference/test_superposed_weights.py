"""The weights of the superposition are kept with the network, and made anew when what they are of has changed."""

import pytest
import torch

from maskstore import MaskMatrix
from supsup_models import MaskedNetwork
from supsup_models.inference.rows import rows_of
from supsup_models.inference.superposition import expected_weights, superposed_weights
from tests.helpers.masks import random_mask, random_matrix
from tests.helpers.networks import network


def test_superposed_weights_are_kept_for_the_same_masks_only() -> None:
    model = network((6, 9, 5))
    masks = [random_mask(model.spec, 0.5, seed) for seed in range(4)]
    matrix, other = MaskMatrix(model.spec, masks[:2]), MaskMatrix(model.spec, masks[1:3])
    for rows in (matrix, other, matrix):
        found = superposed_weights(model, rows_of(model, rows))
        assert found is superposed_weights(model, rows_of(model, rows))
        torch.testing.assert_close(found, torch.from_numpy(rows.mean()) * model.weights)
    matrix.append("another", masks[3])
    torch.testing.assert_close(
        superposed_weights(model, rows_of(model, matrix)), torch.from_numpy(matrix.mean()) * model.weights
    )
    wide = model.double()
    assert superposed_weights(wide, rows_of(wide, matrix)).dtype == torch.float64


def test_superposed_weights_follow_weights_that_change() -> None:
    model, sparse = network((6, 9, 5)), network((6, 9, 5), densities=(0.3, 0.4))
    matrix = random_matrix(model.spec, 3)
    mean = torch.from_numpy(matrix.mean())

    def superposed(model: MaskedNetwork) -> torch.Tensor:
        return superposed_weights(model, rows_of(model, matrix))

    torch.testing.assert_close(superposed(model), mean * model.weights)
    model.weights.mul_(2)
    torch.testing.assert_close(superposed(model), mean * model.weights)
    model.weights.data = torch.full_like(model.weights, 3.0)
    torch.testing.assert_close(superposed(model), mean * 3)
    model.weights = torch.full_like(model.weights, 4.0)
    torch.testing.assert_close(superposed(model), mean * 4)
    assert superposed(sparse) is superposed(sparse)
    sparse.densities = (0.5, 0.5)
    torch.testing.assert_close(superposed(sparse), sparse.weights / 2)


@pytest.mark.parametrize("densities", [None, (0.5, 0.4, 0.3)])
def test_superposed_weights_are_kept_while_they_hold(densities) -> None:
    model = network((12, 17, 9, 8), densities=densities)
    matrix = random_matrix(model.spec, 3)

    def check() -> torch.Tensor:
        found = superposed_weights(model, rows_of(model, matrix))
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
    matrix = random_matrix(model.spec, 5)
    check()
    with torch.inference_mode():
        model.weights = model.weights * 2
        check()
        model.weights.mul_(2.0)
        check()
