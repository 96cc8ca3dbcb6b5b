"""Masks to and from torch's two kinds of pruning, and torchao's, each held against the real package."""

from itertools import pairwise

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.ao.pruning import WeightNormSparsifier
from torch.nn.utils import prune

from maskstore import Mask, MaskBank
from maskstore.errors import MaskValueError, SpecError
from maskstore.interop import read_masks
from maskstore.torch import prune_by, pruned_mask


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 4), nn.Conv2d(1, 2, 3)))


def sparsified() -> tuple[nn.Module, WeightNormSparsifier]:
    net = network()
    sparsifier = WeightNormSparsifier(sparsity_level=0.75, sparse_block_shape=(1, 1), zeros_per_block=1)
    sparsifier.prepare(net, [{"tensor_fqn": "0.weight"}, {"tensor_fqn": "2.0.weight"}])
    sparsifier.step()
    return net, sparsifier


def test_what_prune_put_there_is_read_and_is_what_the_file_has(tmp_path):
    net = network()
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    prune.random_unstructured(net[2][1], "bias", amount=0.5)
    mask = pruned_mask(net)
    assert dict(mask.spec.shapes) == {"0.weight": (8, 16), "2.1.bias": (2,)}
    assert torch.equal(torch.from_numpy(mask.dense()["0.weight"]), net[0].weight != 0)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    assert read_masks(tmp_path / "net.pt").tasks[0].mask == mask


def test_a_mask_goes_to_a_bank_and_onto_another_copy_of_the_network(tmp_path):
    net, other = network(), network()
    prune.global_unstructured([(net[0], "weight"), (net[2][0], "weight")], prune.L1Unstructured, amount=0.8)
    with MaskBank.create(tmp_path / "a.bank", pruned_mask(net).spec) as bank:
        bank.put("lottery", pruned_mask(net))
        prune_by(other, bank["lottery"])
    x = torch.rand(5, 16)
    assert torch.equal(net[0](x), other[0](x))
    assert prune.is_pruned(other)
    prune.remove(other[0], "weight")  # torch's own ways go on from here
    assert torch.equal(other[0].weight, net[0].weight)


def test_another_mask_takes_the_place_of_one_that_is_there():
    net = network()
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    second = Mask.from_dense({"0.weight": torch.rand(8, 16).numpy() < 0.3})
    prune_by(net, second)
    assert int((net[0].weight != 0).sum()) == second.ones
    x = torch.rand(3, 16)
    kept = torch.from_numpy(second.dense()["0.weight"])
    assert torch.allclose(net[0](x), x @ (net[0].weight_orig * kept).T + net[0].bias)
    assert pruned_mask(net) == second


def test_fake_sparsity_is_read_and_written():
    net, sparsifier = sparsified()
    mask = pruned_mask(net)
    assert dict(mask.spec.shapes) == {"0.weight": (8, 16), "2.0.weight": (4, 8)}
    assert mask.ones == (8 * 16 + 4 * 8) // 4
    other, _ = sparsified()
    flipped = Mask.from_dense({name: ~values for name, values in mask.dense().items()})
    prune_by(other, flipped)
    assert pruned_mask(other) == flipped
    assert not ((net[0].weight != 0) & (other[0].weight != 0)).any()
    sparsifier.squash_mask()
    with pytest.raises(SpecError, match="found none"):
        pruned_mask(net)


@pytest.mark.filterwarnings("ignore")  # torchao warns of torch, and of its own kernels for other machines
def test_torchao_in_both_directions():
    torchao = pytest.importorskip("torchao.sparsity")
    net = network()
    with torch.no_grad():
        wanda = torchao.WandaSparsifier(sparsity_level=0.5)
        wanda.prepare(net, [{"tensor_fqn": "0.weight"}])
        net[0](torch.rand(32, 16))
        wanda.step()
    mask = pruned_mask(net)
    assert mask.ones == 8 * 16 // 2
    half = network()
    prune_by(half, mask)
    wanda.squash_mask()
    x = torch.rand(4, 16)
    assert torch.equal(net[0](x), half[0](x))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({"0.weight": (8, 15)}, r"expected a parameter of shape \(8, 15\), found one of shape \(8, 16\)"),
        ({"0.weight": (8, 16), "9.weight": (2,)}, "layer '9.weight'.* found none of that name"),
        ({"0.weights": (8, 16)}, "found none of that name"),
    ],
)
def test_a_mask_of_another_network_changes_nothing(layers, said):
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(SpecError, match=said):
        prune_by(
            net, Mask.from_dense({name: torch.ones(shape, dtype=torch.bool).numpy() for name, shape in layers.items()})
        )
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not prune.is_pruned(net)


def test_a_mask_that_is_no_mask_is_refused():
    net = network()
    prune.identity(net[0], "weight")
    net[0].weight_mask[0, 0] = 0.5
    with pytest.raises(MaskValueError, match=r"layer '0\.weight'"):
        pruned_mask(net)


def test_rounds_of_pruning_make_ever_smaller_masks():
    net = network()
    ones = []
    for _ in range(3):
        prune.l1_unstructured(net[0], "weight", amount=0.5)
        ones.append(pruned_mask(net).ones)
    assert ones == [64, 32, 16]
    assert all(one > other for one, other in pairwise(ones))
