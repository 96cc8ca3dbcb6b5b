"""Sparse masks that pay for their bits: the step against its definition, what prices and z-scores mean, and errors."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskstore import MaskBank, MaskMatrix
from maskstore.codecs import Mix
from maskstore.philox import Role, random_permutation
from maskstore.priors import SeededScores, Uniform
from supsup_models import MaskedNetwork, Recipe, RMSProp, infer_each, infer_task, open_stream, train_task
from supsup_models.errors import NetworkError, SparsityError
from supsup_models.inference.objectives import Superfluous
from supsup_models.inference.superposition import expected_weights, mask_derivatives
from supsup_models.networks.score_masks import keep_largest
from supsup_models.networks.sparsity import kept_weights
from supsup_models.runs.config import run_config
from supsup_models.runs.train import train_run
from supsup_models.training.optimisers import Adam
from supsup_models.training.recipes import Sparse
from supsup_models.training.steps.sparse import SparseStep, bit_prices, densities_at
from supsup_models.training.target_density import coded_bits, find_density
from tests.helpers.masks import random_mask
from tests.helpers.networks import network

DENSITIES = (0.2, 0.3, 0.4)
SPARSE = Sparse(0.3, novelty_weight=0.7, one_shot_weight=0.4, rate_weight=0.01, start_density=0.5, one_shot_from=0.0)
RECIPE = Recipe("sparse", Adam(0.02), schedule="cosine", sparse=SPARSE)


def small_network(
    densities: tuple[float, ...] | None = DENSITIES, *, classes: int = 3, double: bool = False
) -> MaskedNetwork:
    model = network((12, 9, 7, 6), classes=classes, seed=3, densities=densities)
    return model.double() if double else model


def batch(size: int = 10, *, double: bool = True) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 12, generator=generator, dtype=torch.float64 if double else torch.float32)
    return images, torch.arange(size) % 3


def step_of(model: MaskedNetwork, sparse: Sparse = SPARSE, steps: int = 40) -> SparseStep:
    return SparseStep(model, model.initial_scores(1), replace(RECIPE, sparse=sparse), task=1, steps=steps)


def defined_loss(model: MaskedNetwork, masks: list[Tensor], images: Tensor, labels: Tensor, sparse: Sparse) -> Tensor:
    """The loss of the first step as the module's text has it, one expression a term, under autograd."""
    now = densities_at(0.0, sparse, DENSITIES)
    scaled = [
        weights * (final / density) ** 0.5
        for weights, final, density in zip(model.layer_weights(model.weights), DENSITIES, now, strict=True)
    ]
    order = torch.from_numpy(random_permutation(model.seed, Role.SHUFFLE, model.inputs, layer=0, stream=1))
    shuffled = images[: round(len(images) * sparse.shuffled)][:, order]

    def run(x: Tensor) -> Tensor:
        return model.run_layers(x, [mask * weights for mask, weights in zip(masks, scaled, strict=True)])

    loss = F.cross_entropy(run(images), labels)
    uniform = torch.zeros(model.outputs, dtype=images.dtype)
    uniform[model.classes :] = 1.0 / (model.outputs - model.classes)
    loss = loss + sparse.novelty_weight * F.cross_entropy(run(shuffled), uniform.expand(len(shuffled), -1))
    for mask in masks:
        loss = loss + sparse.rate_weight * (mask * bit_prices(mask.detach())).sum()
    both = []
    for shown in (images[-len(shuffled) :], shuffled):
        z = []
        for image in shown.split(1):
            derivative = mask_derivatives(model, expected_weights(model), image, Superfluous(model.classes))
            inner, variance = torch.zeros((), dtype=images.dtype), torch.zeros((), dtype=images.dtype)
            for layer, mask, density in zip(model.layer_weights(derivative), masks, now, strict=True):
                inner = inner - (layer * (mask - density)).sum()
                variance = variance + density * (1 - density) * layer.square().sum()
            z.append(inner / variance.sqrt())
        both.append(torch.stack(z))
    own, others = both
    return loss + sparse.one_shot_weight * (F.softplus(sparse.margin - own).mean() + F.softplus(others + 1).mean())


@pytest.mark.parametrize(
    "sparse",
    [
        SPARSE,
        replace(SPARSE, novelty_weight=0.0),
        replace(SPARSE, one_shot_weight=0.0),
        replace(SPARSE, novelty_weight=0.0, one_shot_weight=0.0),
        replace(SPARSE, rate_weight=0.0, start_density=0.1),
    ],
)
def test_a_step_follows_the_gradient_of_the_defined_loss(sparse: Sparse) -> None:
    model = small_network(double=True)
    images, labels = batch()
    now = densities_at(0.0, sparse, DENSITIES)
    masks = []
    for scores, density in zip(model.layer_weights(model.initial_scores(1)), now, strict=True):
        kept = kept_weights(scores.numel(), density)
        masks.append((scores >= scores.reshape(-1).sort(descending=True).values[kept - 1]).double().requires_grad_())
    expected = torch.autograd.grad(defined_loss(model, masks, images, labels, sparse), masks)
    trained = step_of(model, sparse)
    loss = trained.step(images, labels, 0.02)
    assert trained.scores.grad is not None
    for found, wanted in zip(model.layer_weights(trained.scores.grad), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    weights = [mask.detach() * w for mask, w in zip(masks, _scaled(model, now), strict=True)]
    assert float(loss) == pytest.approx(float(F.cross_entropy(model.run_layers(images, weights), labels)), rel=1e-9)


def _scaled(model: MaskedNetwork, now: tuple[float, ...]) -> list[Tensor]:
    layers = zip(model.layer_weights(model.weights), DENSITIES, now, strict=True)
    return [weights * (final / density) ** 0.5 for weights, final, density in layers]


def test_bfloat16_takes_nearly_the_same_step() -> None:
    model = small_network()
    images, labels = batch(32, double=False)
    recipe = replace(RECIPE, sparse=replace(SPARSE, rate_weight=0.0))
    full, half = (
        SparseStep(model, model.initial_scores(1), recipe, task=1, steps=40, half=half) for half in (False, True)
    )
    for each in (full, half):
        each.step(images, labels, 0.0)
    assert full.scores.grad is not None
    assert half.scores.grad is not None
    similar = F.cosine_similarity(full.scores.grad, half.scores.grad, dim=0)
    assert similar > 0.999


@given(density=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_prices_are_lower_where_a_row_or_a_column_keeps_more(density: float, seed: int) -> None:
    mask = (torch.rand(8, 11, generator=torch.Generator().manual_seed(seed)) < density).float()
    prices = bit_prices(mask)
    assert torch.isfinite(prices).all()
    rows = mask.sum(dim=1).argsort(stable=True)
    sorted_prices = prices[rows]
    assert (sorted_prices.diff(dim=0) <= 1e-5).all()
    columns = mask.sum(dim=0).argsort(stable=True)
    assert (prices[:, columns].diff(dim=1) <= 1e-5).all()


def test_a_mask_without_structure_has_one_price() -> None:
    diagonal = torch.eye(16)
    assert bit_prices(diagonal).abs().max() < 1e-5


@given(progress=st.floats(0, 1), later=st.floats(0, 1), start=st.floats(0.01, 1))
def test_densities_fall_to_their_own(progress: float, later: float, start: float) -> None:
    sparse = replace(SPARSE, start_density=start)
    first, second = sorted((progress, later))
    before, after = densities_at(first, sparse, DENSITIES), densities_at(second, sparse, DENSITIES)
    assert all(a >= b >= final for a, b, final in zip(before, after, DENSITIES, strict=True))
    assert densities_at(1.0, sparse, DENSITIES) == DENSITIES
    assert densities_at(0.0, sparse, DENSITIES) == pytest.approx([max(start, final) for final in DENSITIES])


def test_scores_of_random_masks_have_unit_spread() -> None:
    """What makes the margin one of standard deviations, whatever the network's size."""
    model = small_network((0.1, 0.3, 0.5), double=True)
    images, _ = batch(3)
    generator = torch.Generator().manual_seed(5)
    for image in images.split(1):
        derivative = mask_derivatives(model, expected_weights(model), image, Superfluous(3))
        variance, scores = 0.0, torch.zeros(4000, dtype=torch.float64)
        for layer, density in zip(model.layer_weights(derivative), (0.1, 0.3, 0.5), strict=True):
            masks = (torch.rand(4000, layer.numel(), generator=generator) < density).double()
            scores -= (masks - density) @ layer.reshape(-1)
            variance += float(layer.square().sum()) * density * (1 - density)
        z = scores / variance**0.5
        assert abs(float(z.mean())) < 0.06
        assert float(z.std()) == pytest.approx(1.0, abs=0.05)


@given(seed=st.integers(0, 99), share=st.floats(0.01, 1))
def test_keep_largest_keeps_the_largest(seed: int, share: float) -> None:
    scores = torch.randn(40, generator=torch.Generator().manual_seed(seed)).round(decimals=1).requires_grad_()
    count = kept_weights(40, share)
    mask = keep_largest(scores, (slice(0, 40),), (count,))
    assert int(mask.sum()) == count
    assert scores[mask == 1].min() >= scores[mask == 0].max() if count < 40 else True
    upstream = torch.arange(40.0)
    mask.backward(upstream)
    assert scores.grad is not None
    assert torch.equal(scores.grad, upstream)


@pytest.mark.slow
def test_trained_masks_keep_their_densities_and_tell_their_tasks_apart() -> None:
    """From a single image each, by one derivative, among masks that were trained without knowing each other."""
    stream = open_stream("permuted-digits", tasks=4, seed=0)
    sparse = Sparse(0.1, novelty_weight=0.3, one_shot_weight=0.02, start_density=0.3)
    recipe = Recipe("sparse", Adam(0.03, (0.9, 0.99)), schedule="cosine", sparse=sparse)
    shapes = {"fc1": (64, stream.inputs), "fc2": (40, 64)}
    model = network((stream.inputs, 64, 40), classes=stream.classes, densities=sparse.densities(shapes))
    matrix = MaskMatrix(model.spec)
    for task in stream:
        trained = train_task(model, task.train, recipe, task=task.index, steps=150)
        matrix.append(task.name, trained.mask)
        for layer, kept in zip(model.spec, model.kept, strict=True):
            assert int(trained.mask.layer(layer.name).sum()) == kept
        again = train_task(model, task.train, recipe, task=task.index, steps=150) if task.index == 0 else trained
        assert again.mask == trained.mask
    hits = []
    for task in stream:
        images = task.test.images(slice(0, 100))
        found = infer_each(model, matrix, images, method="one-shot", objective="G").tasks
        hits.append(np.mean(found == task.index))
        short = infer_each(model, matrix, images, method="short-list", objective="G").tasks
        assert np.mean(short == task.index) > 0.9
    assert np.mean(hits) > 0.95


def test_the_superposition_does_not_depend_on_the_masks() -> None:
    model = small_network()
    images, _ = batch(4, double=False)
    masks = [random_mask(model.spec, 0.3, i) for i in range(3)]
    matrix = MaskMatrix(model.spec)
    for index, mask in enumerate(masks):
        matrix.append(str(index), mask)
    alone = MaskMatrix(model.spec)
    alone.append("1", masks[1])
    together = infer_task(model, matrix, images, method="one-shot", objective="G").scores
    assert np.float32(infer_task(model, alone, images, method="one-shot", objective="G").scores[0]) == together[1]


@given(
    target=st.floats(0.01, 0.5), scale=st.floats(0.5, 8), power=st.floats(0.5, 1.1), start=st.floats(0.001, 0.5),
    tables=st.floats(0, 0.004),
)  # fmt: skip
def test_a_density_is_found_for_any_law_of_bits(
    target: float, scale: float, power: float, start: float, tables: float
) -> None:
    calls: list[float] = []

    def bits_at(density: float) -> float:
        calls.append(density)
        return float(tables + scale * density**power)

    found = find_density(target, bits_at, start=start, most=0.5, least=1e-9)
    assert len(calls) <= 6
    assert bits_at(found) <= target
    assert bits_at(found) >= 0.9 * target or found == 0.5


def test_a_target_below_the_tables_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"expected a target that masks can meet, found 0\.001"):
        find_density(0.001, lambda density: 0.01 + density, start=0.1, most=0.5, least=1e-9)


def test_no_density_below_the_least_is_tried() -> None:
    tried: list[float] = []

    def bits_at(density: float) -> float:
        tried.append(density)
        return 0.01 + density

    with pytest.raises(NetworkError, match=r"found 1e-09; the fewest tried are 0\.012"):
        find_density(1e-9, bits_at, start=1e-10, most=0.5, least=0.002)
    assert tried == [0.002]


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", ["equal", "er", "uniform"])
def test_a_target_that_no_mask_can_meet_ends_with_a_weight_in_every_layer(tmp_path: Path, sparsity: str) -> None:
    config = run_config("permuted-digits", tasks=1, batches=1, target_bits=1e-9, sparsity=sparsity)
    with pytest.raises(NetworkError, match="expected a target that masks can meet, found 1e-09"):
        train_run(config, tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_coded_bits_are_those_of_the_bytes() -> None:
    spec = small_network().spec
    mask = random_mask(spec, 0.3, 0)
    coded = [
        Mix().encode_layer(mask.words[layer.packed], layer, partial(Uniform().contexts, spec, index))
        for index, layer in enumerate(spec)
    ]
    assert coded_bits(mask, Uniform()) == sum(8 * (len(c.side) + len(c.payload)) for c in coded) / spec.bits


@pytest.mark.slow
def test_a_run_meets_its_target_and_goes_on(tmp_path: Path) -> None:
    config = run_config("permuted-digits", tasks=2, outputs=40, batches=30, target_bits=0.2)
    trained = train_run(config, tmp_path)
    densities = trained.record.network.densities
    with MaskBank.open(tmp_path / "masks.bank") as bank:
        first = bank["task-0"]
        assert 0.17 < coded_bits(first, SeededScores(seed=0, task=0)) <= 0.2
        model = MaskedNetwork.from_bank(bank)
    assert model.densities == tuple(densities)
    assert model.spec == first.spec
    again = train_run(replace(config, tasks=3), tmp_path)
    assert again.record.network.densities == densities
    assert again.new_tasks == 1
    assert trained.record.tasks == again.record.tasks[:2]


def test_recipes_follow_from_the_other_options() -> None:
    default = run_config("permuted-digits")
    assert (default.recipe, default.sparsity) == ("default", "equal")
    assert run_config("permuted-digits", task_identity=False).recipe == "dense"
    assert run_config("permuted-digits", weights="kaiming").recipe == "dense"
    aimed = run_config("permuted-digits", target_bits=0.1, rate_weight=1e-7)
    assert (aimed.density, aimed.target_bits, aimed.rate_weight) == (None, 0.1, 1e-7)
    for options, message in (
        ({"recipe": "paper", "target_bits": 0.1}, "expected a recipe of sparse masks"),
        ({"recipe": "paper", "rate_weight": 0.1}, "expected a recipe of sparse masks"),
        ({"recipe": "paper", "density": 0.1}, "expected no density"),
        ({"target_bits": 0.1, "density": 0.1}, "expected no density beside"),
        ({"target_bits": 0.0}, r"expected a number in \(0, 1\]"),
        ({"rate_weight": -1.0}, r"expected nats a bit in \[0, 1\], found -1"),
        ({"rate_weight": float("nan")}, r"expected nats a bit in \[0, 1\], found nan"),
        ({"rate_weight": 1e300}, r"expected nats a bit in \[0, 1\], found 1e\+300"),
        ({"target_bits": 0.1, "task_identity": False}, "lenet-300-100 without task identity have none"),
        ({"target_bits": 0.1, "model": "resnet-18-20"}, "edge-popup masks on signed-constant weights of resnet-18-20"),
        ({"recipe": "default", "task_identity": False}, "and task identity"),
        ({"recipe": "default", "weights": "kaiming"}, "signed-constant"),
    ):
        with pytest.raises(NetworkError, match=message):
            run_config("permuted-digits", **options)
    with pytest.raises(SparsityError, match="density"):
        run_config("permuted-digits", density=0.9)


def test_a_run_without_superfluous_outputs_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match='ask for more `outputs`, or for `recipe="dense"`'):
        train_run(run_config("permuted-digits", tasks=1, outputs=10, batches=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_errors() -> None:
    with pytest.raises(NetworkError, match="expected 3 densities, found 2"):
        small_network((0.1, 0.2))
    with pytest.raises(SparsityError, match=r"expected a number in \(0, 1\]"):
        small_network((0.1, 0.2, 0.0))
    with pytest.raises(SparsityError, match=r"fc1: expected to keep at least one of 108 weights, found 0\.004"):
        small_network((0.004, 0.2, 0.2))
    with pytest.raises(NetworkError, match="expected superfluous outputs"):
        step_of(small_network(classes=6))
    with pytest.raises(NetworkError, match="expected Adam, a density"):
        SparseStep(
            small_network(), small_network().initial_scores(0), replace(RECIPE, optimiser=RMSProp()), task=0, steps=1
        )
    with pytest.raises(NetworkError, match="expected a network without densities"):
        train_task(small_network(), _Data(), Recipe("plain"), task=0, steps=1)
    with pytest.raises(NetworkError, match="expected a network of densities"):
        train_task(small_network(None), _Data(), RECIPE, task=0, steps=1)


class _Data:
    labels = torch.zeros(4, dtype=torch.int64)

    def images(self, indices: Tensor | slice) -> Tensor:
        return torch.zeros(4, 12)[indices]

    def to(self, device: torch.device) -> "_Data":
        return self
