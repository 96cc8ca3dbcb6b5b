"""Residual networks as plain torch modules, to be put through `convert`.

He et al., "Deep residual learning for image recognition", CVPR 2016. Parameters are named as in torchvision, so that
its state dicts load; in bottlenecks the 3 x 3 convolution has the stride, as there.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Stem = Literal["cifar", "imagenet"]


class Block(Protocol):
    """A residual block: `(inside, outside, stride)` to a module that takes `inside` channels to `outside`."""

    expansion: int

    def __call__(self, inside: int, width: int, stride: int) -> nn.Module: ...


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut: `inside` channels to `width`."""

    expansion = 1

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inside, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, inside, h, w)` -> `(b, width, h / stride, w / stride)`."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut: `inside` channels to 4 `width`."""

    expansion = 4

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = width * self.expansion
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.downsample = _shortcut(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, inside, h, w)` -> `(b, 4 width, h / stride, w / stride)`."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A stem, four stages of blocks of widths `width` times 1, 2, 4, 8, the mean over all places, a linear layer.

    `depths` are the blocks of each stage. The "cifar" stem is a 3 x 3 convolution; the "imagenet" stem a 7 x 7 one of
    stride 2 and a 3 x 3 maximum of stride 2.
    """

    def __init__(
        self, block: Block, depths: Sequence[int], *, width: int, outputs: int, channels: int = 3, stem: Stem
    ) -> None:
        super().__init__()
        small = stem == "cifar"
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        stages, inside = [], width
        for index, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                blocks.append(block(inside, width << index, 2 if index and not number else 1))
                inside = (width << index) * block.expansion
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
    """ResNet-18 with 20 base channels and a stem for small images: SplitCIFAR100 in Wortsman et al. 2020."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width=20, outputs=outputs, channels=channels, stem="cifar")


def resnet_50(outputs: int = 1000, channels: int = 3) -> ResNet:
    """ResNet-50: SplitImageNet in Wortsman et al. 2020. 25 557 032 parameters for 1000 outputs."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width=64, outputs=outputs, channels=channels, stem="imagenet")


class ResNetMaker(Protocol):
    """Makes a residual network for so many logits and image channels."""

    def __call__(self, outputs: int, channels: int) -> ResNet: ...


RESNETS: Mapping[str, ResNetMaker] = MappingProxyType({"resnet-18-20": resnet_18_20, "resnet-50": resnet_50})


def _shortcut(inside: int, outside: int, stride: int) -> nn.Module | None:
    """None where the input can be added as it is."""
    if inside == outside and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
