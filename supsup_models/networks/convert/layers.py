"""Which parameters of a module are masked, which modules are left alone, and what happens to the rest."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from supsup_models.errors import ConversionError

_MULTIPLIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_IN_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
TRACKING_NORMALISATIONS = (  # those that may keep running statistics
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
_NORMALISATIONS = (*TRACKING_NORMALISATIONS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
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
    found: dict[nn.Parameter, list[str]] = {}
    for path, owner in module.named_modules():
        for attribute in () if path in skipped else _maskable_attributes(owner, embeddings):
            name = joined(path, attribute)
            parameter = owner._parameters.get(attribute)
            if not isinstance(parameter, nn.Parameter) or isinstance(parameter, nn.UninitializedParameter):
                raise ConversionError(
                    f"{name}: expected a plain initialised parameter, found one that is lazy or computed from others"
                )
            if not parameter.is_floating_point() or not parameter.numel():
                raise ConversionError(
                    f"{name}: expected floating-point weights, found {parameter.dtype} of {tuple(parameter.shape)}"
                )
            found.setdefault(parameter, []).append(name)
    if not found:
        raise ConversionError(f"{type(module).__name__}: expected {_MASKABLE} to mask, found none")
    return tuple(MaskedParameter(tuple(names), tuple(parameter.shape)) for parameter, names in found.items())


def find_skipped(module: nn.Module, patterns: Iterable[str]) -> frozenset[str]:
    """Paths of all modules that a pattern names, with everything inside them.

    Patterns are those of the shell (`*`, `?`, `[...]`), matched against a module's whole dotted path. ConversionError
    for one that matches no module.
    """
    paths = [path for path, _ in module.named_modules() if path]
    found: set[str] = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:  # a string's letters are no patterns
        matched = [path for path in paths if fnmatchcase(path, pattern)]
        if not matched:
            known = ", ".join(paths[:6]) + (", ..." if len(paths) > 6 else "")
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
        if path in owners:
            values = {"bias": 0.0, "in_proj_bias": 0.0}
        elif path not in skipped and isinstance(owner, _NORMALISATIONS):
            values = {"weight": 1.0, "bias": 0.0}
        for name, value in values.items():
            parameter = owner._parameters.get(name)
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
