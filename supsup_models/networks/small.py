"""Small networks for small images, as plain torch modules to be put through `convert`: one of convolutions, one of
attention; and all plain networks that have a name."""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from types import MappingProxyType

import torch
from torch import Tensor, nn

from supsup_models.errors import ShapeError
from supsup_models.networks.resnet import resnet_18_20, resnet_50

_WIDTHS, _STRIDES = (32, 64, 64, 64), (2, 2, 2, 1)
_PATCH = 4  # pixels, the side of what the transformer takes as one token


def conv_4(outputs: int, image_shape: tuple[int, ...] = (1, 28, 28)) -> nn.Sequential:
    """Four convolutions of 3 x 3, batch normalisation and ReLU after each, and a linear layer over all that is left.

    Args:
        outputs: number of logits.
        image_shape: of one image, `(channels, height, width)`; images are `(b, channels, height, width)`.

    Raises:
        ShapeError: for another kind of image shape.

    Source: as the Conv4 of Ramanujan et al., CVPR 2020, with strides instead of pooling, batch normalisation and one
    linear layer, so that a task trains in minutes on one core.

    Examples:
        >>> from supsup_models import conv_4, convert
        >>> model = convert(conv_4(outputs=100), image_shape=(1, 28, 28))
        >>> len(model.spec.layers), model.spec.bits
        (5, 194848)
    """
    channels, *sides = _checked("conv_4", image_shape)
    parts: list[nn.Module] = []
    for width, stride in zip(_WIDTHS, _STRIDES, strict=True):
        parts += [nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels, sides = width, [-(-side // stride) for side in sides]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * prod(sides), outputs))


class VisionTransformer(nn.Module):
    """Patches of 4 x 4 pixels as tokens, fixed sines for their places, blocks of attention, the mean of all tokens.

    A block is `x + attention(norm(x))`, then `x + linear(gelu(linear(norm(x))))`.
    """

    def __init__(self, outputs: int, channels: int, *, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, _PATCH, _PATCH)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, channels, h, w)` -> logits `(b, outputs)`."""
        x = self.patches(x)
        x = x.flatten(2).mT + _places(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(dim=1))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        result: Tensor = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return result


def _places(x: Tensor) -> Tensor:
    """Where tokens are: sines and cosines of row and column, `(h w, width)`, for patches `(b, width, h, w)`."""
    _, width, height, breadth = x.shape
    waves = torch.pow(100.0, -torch.arange(0, width, 4, dtype=x.dtype, device=x.device) / width)  # (width / 4,)
    rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None, None] * waves
    columns = torch.arange(breadth, dtype=x.dtype, device=x.device)[None, :, None] * waves
    parts = (rows.sin(), rows.cos(), columns.sin(), columns.cos())
    return torch.cat([part.expand(height, breadth, -1) for part in parts], dim=-1).flatten(0, 1)


def vit_tiny(outputs: int, image_shape: tuple[int, ...] = (1, 28, 28)) -> VisionTransformer:
    """A small vision transformer: patches of 4 x 4 pixels, two blocks, 64 channels, four heads, layer norm.

    Args:
        outputs: number of logits.
        image_shape: of one image, `(channels, height, width)`; images are `(b, channels, height, width)`. Rows and
            columns beyond a multiple of 4 are left out.

    Raises:
        ShapeError: for another kind of image shape, or images smaller than a patch.

    Source: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, with fixed sines for places and the mean of
    all tokens, as in Beyer et al., "Better plain ViT baselines for ImageNet-1k", 2022.

    Examples:
        >>> from supsup_models import convert, vit_tiny
        >>> model = convert(vit_tiny(outputs=100), image_shape=(1, 28, 28))
        >>> len(model.spec.layers), model.spec.bits
        (10, 105728)
    """
    channels, *sides = _checked("vit_tiny", image_shape)
    if min(sides) < _PATCH:
        raise ShapeError(f"vit_tiny: expected images of at least {_PATCH} x {_PATCH}, found {tuple(image_shape)}")
    return VisionTransformer(outputs, channels, width=64, heads=4, depth=2)


def _checked(name: str, image_shape: tuple[int, ...]) -> list[int]:
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ShapeError(f"{name}: expected images (channels, height, width), found shape {tuple(image_shape)}")
    return list(image_shape)


def _resnet(make: Callable[[int, int], nn.Module], outputs: int, image_shape: tuple[int, ...]) -> nn.Module:
    return make(outputs, image_shape[0])


PLAIN_NETWORKS: Mapping[str, Callable[[int, tuple[int, ...]], nn.Module]] = MappingProxyType(
    {
        "resnet-18-20": partial(_resnet, resnet_18_20),
        "resnet-50": partial(_resnet, resnet_50),
        "conv-4": conv_4,
        "vit-tiny": vit_tiny,
    }
)
"""Networks by name that are plain modules; each is made for a number of logits and an image's shape."""
