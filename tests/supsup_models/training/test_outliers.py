"""Outliers: made of the task's images alone, by the seed; and a mask that was trained with them and with views."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from maskstore.philox import Role, random_permutation
from supsup_models import RECIPES, MaskedNetwork, Recipe, open_stream, train_many, train_task
from supsup_models.errors import NetworkError, ShapeError, UnknownNameError
from supsup_models.networks import MaskedModel
from supsup_models.training import Outliers, composed, shuffled
from supsup_models.training.recipes import Sparse

SHAPE = (2, 6, 6)
IMAGES = torch.rand(16, 72, generator=torch.Generator().manual_seed(0)) + torch.arange(16)[:, None]


def made(images: Tensor = IMAGES, seed: int = 0, task: int = 0, step: int = 0) -> Tensor:
    return composed(images, SHAPE, seed=seed, task=task, step=step)


def test_shuffled_values_are_in_one_order() -> None:
    order = random_permutation(3, Role.SHUFFLE, 72, layer=5, stream=4)
    assert torch.equal(shuffled(IMAGES, seed=3, task=4, step=5), IMAGES[:, torch.from_numpy(order)])


def test_composed_images_have_parts_of_the_images() -> None:
    found = made().view(16, *SHAPE)
    swapped, of_four, of_two, bent = found[:4], found[4:8], found[8:12], found[12:]
    for number, image in enumerate(swapped):  # the values of one image, each quadrant whole
        assert torch.equal(image.reshape(-1).sort().values, IMAGES[number].sort().values)
        assert not torch.equal(image.reshape(-1), IMAGES[number])
    everything = IMAGES.view(16, *SHAPE)
    for image in of_four:
        for rows, columns in ((s, t) for s in (slice(0, 3), slice(3, 6)) for t in (slice(0, 3), slice(3, 6))):
            quadrant = image[:, rows, columns]
            assert any(torch.equal(quadrant, own[:, rows, columns]) for own in everything)
    for number, image in enumerate(of_two, start=8):
        own = image == everything[number]
        assert 0.2 < float(own.float().mean()) <= 1
        assert {int(value) for value in image.unique()} <= set(range(17))
    for number, image in enumerate(bent, start=12):
        assert not torch.equal(image, everything[number])
        assert number - 1e-3 <= float(image.min()) <= float(image.max()) <= number + 1 + 1e-3


def test_composed_images_follow_from_the_seed_the_task_and_the_step() -> None:
    first = made()
    assert torch.equal(first, made())
    assert not any(torch.equal(first, other) for other in (made(seed=1), made(task=1), made(step=1)))
    assert [len(made(IMAGES[:count])) for count in (1, 2, 3, 7)] == [1, 2, 3, 7]
    with pytest.raises(ShapeError, match="expected even sides, found 3 x 4"):
        composed(torch.rand(2, 12), (1, 3, 4), seed=0, task=0, step=0)


def digits_network(recipe: Recipe, outputs: int = 40) -> MaskedNetwork:
    return recipe.network("lenet-300-100", inputs=64, outputs=outputs, classes=2, seed=0)


def test_a_callable_makes_outliers_of_the_tasks_images_only() -> None:
    task = open_stream("split-digits")[1]
    seen: list[tuple[int, int, int]] = []
    own = {image.numpy().tobytes() for image in task.train.images(slice(None))}

    def dark(images: Tensor, *, seed: int, task: int, step: int) -> Tensor:
        assert {image.float().numpy().tobytes() for image in images} <= own
        seen.append((seed, task, step))
        return torch.zeros_like(images)

    outliers: Outliers = dark
    recipe = Recipe("dark", RECIPES["views"].optimiser, sparse=Sparse(0.1, novelty_weight=1.0, outliers=outliers))
    model = digits_network(recipe)
    train_task(model, task.train, recipe, task=1, steps=30, stepping="fused")
    assert seen == [(0, 1, step) for step in range(30)]


def certainty(model: MaskedModel, recipe: Recipe, images: Tensor) -> float:
    """How often the answer to images of no task is a class, in a view or not."""
    task = open_stream("split-digits")[0]
    mask = train_task(model, task.train, recipe, task=0, steps=300).mask
    answers = torch.softmax(model(images, mask), dim=1)
    return float(answers[:, : recipe.named_outputs(2)].sum(dim=1).mean())


def test_masks_learn_to_answer_outliers_with_superfluous_outputs() -> None:
    recipe = RECIPES["views"].for_images((1, 8, 8))
    assert recipe.sparse is not None
    task = open_stream("split-digits")[0]
    strange = composed(task.test.images(slice(None)), (1, 8, 8), seed=9, task=9, step=9)
    without = replace(recipe, sparse=replace(recipe.sparse, novelty_weight=0.0))
    assert certainty(digits_network(recipe), recipe, strange) < 0.4
    assert certainty(digits_network(without), without, strange) > 0.9


def test_what_does_not_go_together_is_refused() -> None:
    task = open_stream("split-digits")[0]
    recipe = RECIPES["views"]
    with pytest.raises(NetworkError, match=r"expected a recipe that knows the images' shape.*for_images"):
        train_task(digits_network(recipe), task.train, recipe, task=0, steps=1)
    shown = recipe.for_images((1, 8, 8))
    with pytest.raises(NetworkError, match=r"expected superfluous outputs .*2 classes in 8 views, 16 outputs"):
        train_task(digits_network(recipe, 16), task.train, shown, task=0, steps=1)
    assert shown.sparse is not None
    alone = replace(shown, sparse=replace(shown.sparse, novelty_weight=0.0))
    with pytest.raises(NetworkError, match="expected an output for each of 2 classes in 8 views, found 15 outputs"):
        train_task(digits_network(recipe, 15), task.train, alone, task=0, steps=1)
    with pytest.raises(ShapeError, match=r"expected images of 64 values, found shape \(1, 6, 6\)"):
        train_task(digits_network(recipe), task.train, recipe.for_images((1, 6, 6)), task=0, steps=1)
    with pytest.raises(NetworkError, match="expected one_shot_weight 0 beside views"):
        replace(recipe, sparse=Sparse(0.1, one_shot_weight=0.1))
    with pytest.raises(UnknownNameError, match="kind of outliers"):
        Sparse(0.1, outliers="turned")
    unseen = Recipe("views only", image_shape=(1, 8, 8), views=4)
    with pytest.raises(NetworkError, match=r"found recipe 'views only' .*threshold masks, 4 views"):
        train_many(digits_network(unseen), [task], unseen, steps=1, together="stacked")


def test_views_go_with_every_recipe_and_many_tasks() -> None:
    tasks = list(open_stream("split-digits", tasks=2))
    recipe = Recipe("views only", image_shape=(1, 8, 8), views=4)
    model = digits_network(recipe)
    together = [trained.mask for trained in train_many(model, tasks, recipe, steps=12)]
    assert together[1] == train_task(model, tasks[1].train, recipe, task=1, steps=12).mask
    plain = replace(recipe, views=1)
    assert together[1] != train_task(model, tasks[1].train, plain, task=1, steps=12).mask


def test_a_recipe_learns_a_shape_only_where_it_needs_one() -> None:
    assert RECIPES["default"].for_images((1, 8, 8)) is RECIPES["default"]
    assert RECIPES["views"].for_images((1, 8, 8)).image_shape == (1, 8, 8)
    with pytest.raises(ShapeError, match="expected an image shape of channels"):
        RECIPES["views"].for_images((64,))
