"""Masks that torch's own pruning put on a module, and masks of a bank put on a module in torch's own ways.

Torch has two ways: `torch.nn.utils.prune` keeps `NAME_orig` and `NAME_mask` beside each other, and the sparsifiers of
`torch.ao.pruning` and torchao put a `FakeSparsity` on a parameter.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrize import is_parametrized

from maskstore.errors import MaskValueError, SpecError
from maskstore.masks import Mask

_SUFFIX = "_mask"


def pruned_mask(module: nn.Module) -> Mask:
    """The mask that torch's pruning put on a module.

    Args:
        module: A module under `torch.nn.utils.prune`, or under a sparsifier of `torch.ao.pruning` or torchao before its
            `squash_mask`.

    Returns:
        A layer for each pruned parameter, by the parameter's path, such as `"0.weight"`.

    Raises:
        SpecError: No parameter is pruned.
        MaskValueError: A mask has other values than 0 and 1.

    Examples:
        >>> import torch
        >>> from torch.nn.utils import prune
        >>> from maskstore.torch import pruned_mask
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> _ = prune.l1_unstructured(net[0], "weight", amount=0.75)
        >>> mask = pruned_mask(net)
        >>> dict(mask.spec.shapes), mask.ones
        ({'0.weight': (4, 8)}, 8)
    """
    found = dict(_masks(module))
    if not found:
        raise SpecError(
            "module: expected a parameter under torch.nn.utils.prune or FakeSparsity, found none (after "
            "`prune.remove` or `squash_mask` the masks are gone: what is not zero was kept)"
        )
    arrays = {}
    for name, values in found.items():
        kept = values.detach() != 0
        if not torch.equal(kept.to(values.dtype), values):
            raise MaskValueError(f"layer {name!r:.80}: expected a mask of 0 and 1, found other values")
        arrays[name] = kept.cpu().numpy()
    return Mask.from_dense(arrays)


def prune_by(module: nn.Module, mask: Mask) -> None:
    """Put a mask on the parameters of a module, as `torch.nn.utils.prune` does.

    A parameter that is pruned already, by `prune` or by `FakeSparsity`, gets this mask instead of its own. All others
    get theirs from `prune.custom_from_mask`, so that `prune.remove` and everything else that knows of pruned modules
    works. `pruned_mask` gives the mask back.

    Args:
        module: The module. Its weights stay as they are; where a weight is dropped, the module computes with 0.
        mask: Its layers are paths of parameters, such as `"0.weight"`.

    Raises:
        SpecError: The module has no parameter of that path and shape. It is then left as it was.

    Examples:
        >>> import torch
        >>> from maskstore import Mask
        >>> from maskstore.torch import prune_by, pruned_mask
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> mask = Mask.from_dense({"0.weight": torch.rand(4, 8).numpy() < 0.25})
        >>> prune_by(net, mask)
        >>> int((net[0].weight != 0).sum()) == mask.ones, pruned_mask(net) == mask
        (True, True)
    """
    here = dict(_masks(module))
    places: list[tuple[nn.Module, str, Tensor]] = []
    for layer in mask.spec:
        path, _, name = layer.name.rpartition(".")
        owner = dict(module.named_modules()).get(path)
        tensor = here.get(layer.name)
        if tensor is None:
            tensor = None if owner is None else owner._parameters.get(name)
        if owner is None or tensor is None or tuple(tensor.shape) != layer.shape:
            what = "none of that name" if tensor is None else f"one of shape {tuple(tensor.shape)}"
            raise SpecError(f"layer {layer.name!r:.80}: expected a parameter of shape {layer.shape}, found {what}")
        places.append((owner, name, tensor))
    dense = mask.dense()
    for layer, (owner, name, tensor) in zip(mask.spec, places, strict=True):
        values = torch.from_numpy(dense[layer.name]).to(tensor.device, tensor.dtype)
        if layer.name not in here:
            prune.custom_from_mask(owner, name, values)
            continue
        with torch.no_grad():
            tensor.copy_(values)
            if name in owner.__dict__:  # what `prune` computed with the mask before; its hook does so in each call
                setattr(owner, name, owner.get_parameter(f"{name}_orig") * values)


def _masks(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The masks on a module, as they lie there, by the path of the parameter."""
    for path, owner in module.named_modules():
        if path.rpartition(".")[2] == "parametrizations" or ".parametrizations." in f".{path}.":
            continue
        before = f"{path}." if path else ""
        for name, buffer in owner._buffers.items():
            if (
                name.endswith(_SUFFIX)
                and buffer is not None
                and f"{name.removesuffix(_SUFFIX)}_orig" in owner._parameters
            ):
                yield before + name.removesuffix(_SUFFIX), buffer
        if is_parametrized(owner):
            for name, steps in owner.parametrizations.items():
                for step in steps:
                    if type(step).__name__ == "FakeSparsity":
                        yield before + name, step.mask
