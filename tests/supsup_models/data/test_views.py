"""Views of an image: what each shows, what label it has, and that they follow from the seed."""

import numpy as np
import pytest
import torch

from supsup_models import Views
from supsup_models.errors import NetworkError, ShapeError

IMAGES = torch.rand(9, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(9) % 3
VIEWS = Views((2, 4, 4))


def test_views_turn_and_mirror_every_channel() -> None:
    shown = VIEWS(IMAGES).view(8, 9, 2, 4, 4)
    upright = IMAGES.view(9, 2, 4, 4)
    for quarters in range(4):
        assert torch.equal(shown[quarters], upright.rot90(quarters, (2, 3)))
        assert torch.equal(shown[4 + quarters], upright.flip(3).rot90(quarters, (2, 3)))
    assert torch.equal(Views((2, 4, 4), 4)(IMAGES), VIEWS(IMAGES)[:4])
    assert torch.equal(Views((2, 4, 4), 1)(IMAGES), IMAGES[None])


@pytest.mark.parametrize("share", [0.1, 1.0, 2.5])
def test_labels_name_class_and_view(share: float) -> None:
    images, labels = VIEWS.drawn(IMAGES, LABELS, classes=3, share=share, seed=1, task=2, step=3)
    assert len(images) == len(labels) == 9 + max(1, round(share * 9))
    assert torch.equal(images[:9], IMAGES)
    assert torch.equal(labels[:9], LABELS)
    for number, (image, label) in enumerate(zip(images[9:], labels[9:].tolist(), strict=True)):
        view, own = divmod(label, 3)
        assert 1 <= view < 8
        assert own == int(LABELS[number % 9])
        assert torch.equal(image, VIEWS(IMAGES[number % 9][None])[view, 0])


def test_views_are_drawn_by_seed_task_and_step() -> None:
    def drawn(seed: int, task: int, step: int) -> list[int]:
        return VIEWS.drawn(IMAGES, LABELS, classes=3, share=3, seed=seed, task=task, step=step)[1].tolist()

    first = drawn(0, 0, 0)
    assert first == drawn(0, 0, 0)
    assert all(first != other for other in (drawn(1, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1)))
    assert {label // 3 for label in first[9:]} == set(range(1, 8))
    assert first[9:15] == PINNED  # masks would not be the same again


PINNED = [18, 13, 11, 18, 16, 11]


def test_what_has_no_such_views_is_refused() -> None:
    with pytest.raises(NetworkError, match="views: expected 1, 4 or 8, found 3"):
        Views((1, 4, 4), 3)
    with pytest.raises(ShapeError, match="expected square images, found 4 x 5"):
        Views((1, 4, 5))
    with pytest.raises(ShapeError, match="expected an image shape of channels, height and width"):
        Views((16,))
    assert np.prod(VIEWS.image_shape) == VIEWS.inputs
