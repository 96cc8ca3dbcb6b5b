"""Residual networks as plain torch modules, to be put through `convert`.

He et al., "Deep residual learning for image recognition", CVPR 2016. Parameters are named as in torchvision, so that
its state dicts load; in bottlenecks the 3 x 3 convolution has the stride, as there.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

Stem = Literal["cifar", "imagenet"]


class Block(nn.Module):
    """Convolutions around a shortcut, normalised each, with ReLU between them and after the sum.

    A plain block has two of 3 x 3, `inside` channels to `width`; a bottleneck 1 x 1, 3 x 3 and 1 x 1, to 4 `width`.
    """

    def __init__(self, inside: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        self.outside = 4 * width if bottleneck else width
        sizes = [(inside, width, 3, stride), (width, width, 3, 1)]
        if bottleneck:
            sizes = [(inside, width, 1, 1), (width, width, 3, stride), (width, self.outside, 1, 1)]
        self._depth = len(sizes)
        for number, (of, to, kernel, step) in enumerate(sizes, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(of, to, kernel, step, padding=kernel // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(to))
        self.downsample = None  # where the input can be added as it is
        if inside != self.outside or stride != 1:
            shortcut = nn.Conv2d(inside, self.outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(self.outside))

    def forward(self, x: Tensor) -> Tensor:
        """`(b, inside, h, w)` -> `(b, outside, h / stride, w / stride)`."""
        y = x
        for number in range(1, self._depth + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            if number < self._depth:
                y = torch.relu(y)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A stem, four stages of blocks of widths `width` times 1, 2, 4, 8, the mean over all places, a linear layer.

    `depths` are the blocks of each stage. The "cifar" stem is a 3 x 3 convolution; the "imagenet" stem a 7 x 7 one of
    stride 2 and a 3 x 3 maximum of stride 2.
    """

    def __init__(
        self, depths: Sequence[int], *, bottleneck: bool, width: int, outputs: int, channels: int = 3, stem: Stem
    ) -> None:
        super().__init__()
        small = stem == "cifar"
        kernel, step = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, step, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        stages, inside = [], width
        for index, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                stride = 2 if index and not number else 1
                blocks.append(Block(inside, width << index, stride, bottleneck=bottleneck))
                inside = blocks[-1].outside
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inside, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, channels, h, w)` -> logits `(b, outputs)`."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def resnet_18_20(outputs: int, channels: int = 3) -> ResNet:
    """ResNet-18 with 20 base channels and a stem for small images, a plain module with torch's random weights.

    Args:
        outputs: number of logits.
        channels: channels of an image; images are `(b, channels, height, width)`.

    Source: He et al., CVPR 2016; used for SplitCIFAR100 in Wortsman et al. 2020.

    Examples:
        >>> from supsup_models import convert, resnet_18_20
        >>> model = convert(resnet_18_20(outputs=5), mask="edge-popup", density=0.3, image_shape=(3, 32, 32))
        >>> len(model.spec.layers), model.spec.bits
        (21, 1090940)
    """
    return ResNet((2, 2, 2, 2), bottleneck=False, width=20, outputs=outputs, channels=channels, stem="cifar")


def resnet_50(outputs: int = 1000, channels: int = 3) -> ResNet:
    """ResNet-50, a plain module with torch's random weights: 25 557 032 parameters for 1000 outputs.

    Args:
        outputs: number of logits.
        channels: channels of an image; images are `(b, channels, height, width)`.

    Source: He et al., CVPR 2016; used for SplitImageNet in Wortsman et al. 2020.

    Examples:
        >>> import torch
        >>> from supsup_models import mask_spec, resnet_50
        >>> with torch.device("meta"):  # shapes only: no memory is taken
        ...     mask_spec(resnet_50(outputs=10)).bits
        23475392
    """
    return ResNet((3, 4, 6, 3), bottleneck=True, width=64, outputs=outputs, channels=channels, stem="imagenet")


RESNETS: Mapping[str, Callable[[int, int], ResNet]] = MappingProxyType(
    {"resnet-18-20": resnet_18_20, "resnet-50": resnet_50}
)
"""Residual networks by name; each is made for a number of logits and of image channels."""
