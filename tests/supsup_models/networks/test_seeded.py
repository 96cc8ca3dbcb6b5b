"""Seeded weights and scores: golden values, and the agreement with the prior that codes the masks."""

from math import sqrt

import numpy as np
import torch

from maskstore import MaskSpec
from maskstore.philox import Role, random_packed_bits
from maskstore.priors import SeededScores
from supsup_models.networks import seeded
from tests.helpers.networks import network

SHAPE = (3, 8)


def test_golden_weights() -> None:
    weights = seeded.weights(7, 1, SHAPE)
    assert weights.dtype == torch.float32
    assert torch.equal(weights.abs(), torch.full(SHAPE, 0.5))  # c = sqrt(2 / 8)
    assert "".join("+" if sign > 0 else "-" for sign in weights.flatten()) == "--+-++-++-++------+-++++"


def test_golden_scores() -> None:
    scores = seeded.initial_scores(7, 1, SHAPE, task=3)
    assert scores.dtype == torch.float32
    expected = [
        -0.144332215,
        0.180406153,
        -0.0791074112,
        -0.0335345715,
        -0.333027571,
        0.324011803,
        -0.324728251,
        0.269574583,
    ]
    assert torch.equal(scores[0], torch.tensor(expected))


def test_weight_signs_are_the_packed_bits() -> None:
    word = int(random_packed_bits(5, Role.WEIGHT_SIGN, 24, layer=2)[0])
    assert seeded.weight_sign(5, 2, SHAPE).flatten().tolist() == [1 if word >> i & 1 else -1 for i in range(24)]


def test_scores_stay_within_kaiming_bounds_and_never_touch_zero() -> None:
    scores = seeded.initial_scores(0, 0, (50, 400), task=0)
    bound = 1 / sqrt(400)
    assert 0.999 * bound < float(scores.abs().max()) <= bound
    assert float(scores.abs().min()) > 0
    assert abs(float(scores.mean())) < 0.02 * bound


def test_gain_scales_the_constant_alone() -> None:
    plain, scaled = seeded.weights(0, 0, SHAPE), seeded.weights(0, 0, SHAPE, gain=2.0)
    assert torch.equal(scaled, 2 * plain)


def test_layers_and_tasks_draw_different_numbers() -> None:
    draws = {tuple(seeded.initial_scores(0, l, SHAPE, task=t).flatten().tolist()) for l in (0, 1) for t in (0, 1)}  # noqa: E741
    assert len(draws) == 4


def test_the_prior_of_the_bank_sees_the_same_integers() -> None:
    """`SeededScores` codes masks by the sign of the score and of the weight: classes are 2 (s > 0) + (w > 0)."""
    spec = MaskSpec({"fc1": (7, 30), "fc2": (5, 7)})
    prior = SeededScores(seed=11, task=4)
    for index, layer in enumerate(spec):
        contexts = prior.contexts(spec, index)
        score = seeded.initial_scores(11, index, layer.shape, task=4).flatten().numpy()
        weight = seeded.weights(11, index, layer.shape).flatten().numpy()
        assert np.array_equal(contexts.ids % contexts.classes, 2 * (score > 0) + (weight > 0))
        level = contexts.ids // contexts.classes
        magnitude = np.abs(score) * sqrt(layer.shape[1])
        assert np.array_equal(level, np.minimum((magnitude * contexts.levels).astype(np.uint8), contexts.levels - 1))


def test_a_network_uses_these_layer_by_layer() -> None:
    model = network((5, 4, 6, 3), seed=9, weight_gain=1.5)
    for index, (layer, weight) in enumerate(zip(model.spec, model.layer_weights(model.weights), strict=True)):
        assert torch.equal(weight, seeded.weights(9, index, layer.shape, gain=1.5))
    scores = model.layer_weights(model.initial_scores(2))
    assert all(torch.equal(s, seeded.initial_scores(9, i, s.shape, task=2)) for i, s in enumerate(scores))
