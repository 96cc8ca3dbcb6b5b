"""The residual networks: parameter counts and shapes as published, names as in torchvision."""

import pytest
import torch
from torch import nn

from supsup_models import RESNETS, conv_4, mask_spec, resnet_18_20, resnet_50, vit_tiny
from supsup_models.errors import ShapeError
from supsup_models.networks import PLAIN_NETWORKS


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet_50_has_the_published_size() -> None:
    with torch.device("meta"):
        net = resnet_50()
    assert parameters(net) == 25_557_032  # He et al. 2016 in torchvision's count, affine normalisation included
    spec = mask_spec(net)
    assert len(spec) == 54  # 1 + 3 * 16 + 4 shortcuts + 1
    assert spec.bits == 25_557_032 - 53_120 - 1000  # without 2 * 26 560 affine parameters and the 1000 biases
    assert spec.shapes["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert spec.shapes["layer2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert net(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 1000)
    assert net.layer4(torch.empty(1, 1024, 14, 14, device="meta")).shape == (1, 2048, 7, 7)


def test_resnet_18_has_the_published_size() -> None:
    """With 64 base channels and the large stem it is the usual ResNet-18 of 11 689 512 parameters."""
    from supsup_models.networks.resnet import ResNet

    with torch.device("meta"):
        net = ResNet((2, 2, 2, 2), bottleneck=False, width=64, outputs=1000, stem="imagenet")
    assert parameters(net) == 11_689_512


@pytest.mark.parametrize("outputs", [5, 100])
def test_resnet_18_20_size_is_what_the_formula_says(outputs: int) -> None:
    """Base width w = 20: convolutions 3·9·w, 4·9w², then per stage of width v = 2w, 4w, 8w: 9·v²/2 + 3·9v² + v²/2."""
    w = 20
    weights = 27 * w + 36 * w * w + sum(32 * v * v for v in (2 * w, 4 * w, 8 * w)) + 8 * w * outputs
    affine = 2 * (5 * w + 5 * (2 * w + 4 * w + 8 * w))
    assert weights == 1_090_140 + 160 * outputs
    assert affine == 3000
    net = resnet_18_20(outputs)
    assert mask_spec(net).bits == weights
    assert parameters(net) == weights + affine + outputs
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, outputs)
    assert net.layer4(torch.zeros(2, 80, 8, 8)).shape == (2, 160, 4, 4)  # 32 x 32 images end as 4 x 4


def test_names_are_torchvisions() -> None:
    with torch.device("meta"):
        names = set(resnet_50().state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.1.num_batches_tracked", "fc.bias"} <= names
    assert len(names) == 320
    assert set(RESNETS) == {"resnet-18-20", "resnet-50"}


def test_small_networks_take_images_of_their_shape() -> None:
    assert set(PLAIN_NETWORKS) == {*RESNETS, "conv-4", "vit-tiny"}
    for shape in ((1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 9, 13)):
        for make in (conv_4, vit_tiny):
            assert make(7, shape)(torch.randn(2, *shape)).shape == (2, 7)
    with pytest.raises(ShapeError, match=r"vit_tiny: expected images of at least 4 x 4, found \(1, 3, 8\)"):
        vit_tiny(7, (1, 3, 8))
    with pytest.raises(ShapeError, match=r"conv_4: expected images \(channels, height, width\), found shape \(64,\)"):
        conv_4(7, (64,))


def test_a_transformer_knows_where_its_patches_are() -> None:
    """Without places, the mean over tokens is the same in any order of the patches."""
    net = vit_tiny(5, (1, 8, 8)).eval()
    image = torch.randn(1, 1, 8, 8)
    swapped = image.roll(4, dims=3)
    assert not torch.allclose(net(image), net(swapped), atol=1e-3)
