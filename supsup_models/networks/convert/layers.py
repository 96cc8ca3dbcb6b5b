"""Which parameters of a module are masked, which modules are left alone, and what happens to the rest."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from supsup_models._names import expect
from supsup_models.errors import ConversionError

_MULTIPLIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_IN_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
TRACKING_NORMALISATIONS = (  # those that may keep running statistics
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
NORMALISATIONS = (*TRACKING_NORMALISATIONS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_MASKABLE = "a Linear, Conv1d, Conv2d, Conv3d or MultiheadAttention, or with embeddings=True an Embedding"


@dataclass(frozen=True)
class MaskedParameter:
    """A masked parameter: its names in the module's state dict, of which the first is the layer's in the spec.

    A parameter that modules share (tied weights) has several names and one mask.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The layer's name in the spec."""
        return self.names[0]


def find_masked(module: nn.Module, skipped: frozenset[str], embeddings: bool) -> tuple[MaskedParameter, ...]:
    """All parameters to mask, in module order. ConversionError if there are none, or one is not an ordinary one."""
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor):
            raise ConversionError(f"{name}: expected an initialised tensor, found a lazy one; run the module once")
    found: dict[nn.Parameter, list[str]] = {}
    for path, owner in module.named_modules():
        for attribute in () if path in skipped else _maskable_attributes(owner, embeddings):
            name = joined(path, attribute)
            parameter = owner._parameters.get(attribute)
            if not isinstance(parameter, nn.Parameter) or is_parametrized(owner):
                raise ConversionError(f"{name}: expected a plain parameter, found one that is computed from others")
            if type(owner).__module__.startswith("torch.ao."):
                raise ConversionError(f"{name}: expected a float module, found the quantised {type(owner).__name__}")
            if not parameter.is_floating_point() or not parameter.numel():
                raise ConversionError(
                    f"{name}: expected floating-point weights, found {parameter.dtype} of {tuple(parameter.shape)}"
                )
            found.setdefault(parameter, []).append(name)
    if not found:
        raise ConversionError(f"{type(module).__name__}: expected {_MASKABLE} to mask, found none")
    _add_ties(module, found, skipped)
    return tuple(MaskedParameter(tuple(names), tuple(parameter.shape)) for parameter, names in found.items())


def _add_ties(module: nn.Module, found: dict[nn.Parameter, list[str]], skipped: frozenset[str]) -> None:
    """All other names of the masked parameters: tied weights have one mask, whatever kinds of modules they are in.

    ConversionError for one that is masked here and skipped there, or is in a module that reads it elsewhere.
    """
    for path, owner in module.named_modules():
        for attribute, parameter in owner._parameters.items():
            if parameter not in found:
                continue
            name, first = joined(path, attribute), found[parameter][0]
            if path in skipped:
                raise ConversionError(
                    f"{name}: expected a weight that is masked or skipped as a whole, found {first!r} masked that "
                    "shares it; skip both or neither"
                )
            if isinstance(owner, nn.RNNBase):
                raise ConversionError(f"{name}: expected a weight of its own, found one that it shares with {first!r}")
            if getattr(owner, "max_norm", None) is not None:
                raise ConversionError(
                    f"{name}: expected an embedding without max_norm, which rewrites its weights in every call, found "
                    f"max_norm {owner.max_norm:g}; skip it, or leave embeddings unmasked"
                )
            if name not in found[parameter]:
                found[parameter].append(name)


def set_up_embeddings(module: nn.Module, masked: tuple[MaskedParameter, ...]) -> None:
    """Attributes of embeddings that act on the weight, made harmless: sparse gradients, and norms cut in every call."""
    names = {name.rpartition(".")[0] for parameter in masked for name in parameter.names}
    for path, owner in module.named_modules():
        if not isinstance(owner, nn.Embedding | nn.EmbeddingBag):
            continue
        if path in names:
            owner.sparse = False  # a mask's gradient is dense
        elif owner.max_norm is not None:  # frozen: what calls would do to the rows they see is done once to all
            with torch.no_grad():
                rows = torch.arange(owner.num_embeddings, device=owner.weight.device)
                torch.embedding_renorm_(owner.weight, rows, owner.max_norm, owner.norm_type)
            owner.max_norm = None


def padding_rows(module: nn.Module, masked: tuple[MaskedParameter, ...]) -> list[list[int]]:
    """For each masked parameter, the rows that stand for padding in an embedding, which are zero there."""
    owners = [[module.get_submodule(name.rpartition(".")[0]) for name in parameter.names] for parameter in masked]
    embeddings = [[each for each in tied if isinstance(each, nn.Embedding | nn.EmbeddingBag)] for tied in owners]
    return [[each.padding_idx for each in tied if each.padding_idx is not None] for tied in embeddings]


def find_skipped(module: nn.Module, patterns: Iterable[str]) -> frozenset[str]:
    """Paths of all modules that a pattern names, with everything inside them.

    Patterns are those of the shell (`*`, `?`, `[...]`), matched against a module's whole dotted path. ConversionError
    for one that matches no module.
    """
    paths = [path for path, _ in module.named_modules() if path]
    found: set[str] = set()
    wanted = "a pattern, or several"
    for pattern in (patterns,) if isinstance(patterns, str) else expect("skip", patterns, Iterable, wanted):
        expect("skip", pattern, str, wanted)
        matched = [path for path in paths if fnmatchcase(path, pattern)]
        if not matched:
            known = ", ".join(paths[:6]) or "its parts, of which it has none" + (", ..." if len(paths) > 6 else "")
            raise ConversionError(f"skip {pattern!r}: expected a pattern that matches one of {known}, found no match")
        found.update(path for path in paths for top in matched if path == top or path.startswith(top + "."))
    return frozenset(found)


def make_plain(module: nn.Module, masked: tuple[MaskedParameter, ...], skipped: frozenset[str]) -> None:
    """Biases of masked layers become zero and normalisation layers lose their affine part (weight one, bias zero).

    What is set this way, the seed need not know: with it and a mask the network is whole.
    """
    owners = {name.rpartition(".")[0] for parameter in masked for name in parameter.names}
    for path, owner in module.named_modules():
        values: dict[str, float] = {}
        if path in owners and isinstance(owner, (*_MULTIPLIED, nn.MultiheadAttention)):
            values = {"bias": 0.0, "in_proj_bias": 0.0}
        elif path not in skipped and isinstance(owner, NORMALISATIONS):
            values = {"weight": 1.0, "bias": 0.0}
        for name, value in values.items():
            parameter = owner._parameters.get(name)
            if parameter is None and isinstance(getattr(owner, name, None), torch.Tensor):
                raise ConversionError(
                    f"{joined(path, name)}: expected a plain parameter, found one that is computed from others"
                )
            if parameter is not None:
                parameter.data.fill_(value)


def joined(path: str, name: str) -> str:
    """The dotted name of something inside the module at `path`."""
    return f"{path}.{name}" if path else name


def _maskable_attributes(owner: nn.Module, embeddings: bool) -> Iterator[str]:
    if isinstance(owner, _MULTIPLIED) or (embeddings and isinstance(owner, nn.Embedding)):
        yield "weight"
    elif isinstance(owner, nn.MultiheadAttention):
        same_width = owner._qkv_same_embed_dim
        yield from _IN_PROJECTIONS[:1] if same_width else _IN_PROJECTIONS[1:]
