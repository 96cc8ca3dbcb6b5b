"""What belongs to a task besides its mask and its running statistics: a head, biases, affine parts of normalisation.

All of it is in the task's extras, by the names of the state dict. A head's weight and bias are there as they are. Of
every other parameter, the extras have what is added to the module's own value. So zeros stand for the module as it
came, and small changes take few bytes.

Where the affine part of a normalisation layer is the task's own, its running statistics stay those of the module, in
training too. The affine part can do all that they could, two numbers a channel are stored in the place of four, and
small batches do not disturb each other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supsup_models._names import check, expect
from supsup_models.errors import ConversionError, ShapeError, StatisticsError
from supsup_models.networks.convert import statistics
from supsup_models.networks.convert.layers import (
    NORMALISATIONS,
    TRACKING_NORMALISATIONS,
    MaskedParameter,
    joined,
)

OWN_PARTS = ("bias", "norm")
"""What can be a task's own beside a head: biases of masked layers, affine parts of normalisation layers."""
_BIASES = ("bias", "in_proj_bias")


@dataclass(frozen=True)
class Own:
    """The parameters of a module that are a task's own."""

    head: str | None = None
    """The path of the layer that makes the logits."""
    changed: tuple[str, ...] = ()
    """The parameters of which a task has a change."""
    normalisations: tuple[str, ...] = ()
    """Paths of the layers whose running statistics stay the module's, because the task has their affine part."""

    @property
    def of_head(self) -> tuple[str, ...]:
        """The names of the head's weight and bias."""
        return () if self.head is None else (joined(self.head, "weight"), joined(self.head, "bias"))

    @property
    def names(self) -> tuple[str, ...]:
        """Every parameter that is a task's own."""
        return (*self.of_head, *self.changed)

    def initial(self, module: nn.Module, classes: int | None) -> dict[str, Tensor]:
        """What training starts from: a head of zeros for so many classes, and no change of anything else."""
        found: dict[str, Tensor] = {}
        if self.head is not None:
            weight = module.get_parameter(self.of_head[0])
            rows = len(weight) if classes is None else classes
            for name, shape in zip(self.of_head, ((rows, weight.shape[1]), (rows,)), strict=True):
                found[name] = weight.new_zeros(shape)
        return found | {name: torch.zeros_like(module.get_parameter(name)) for name in self.changed}

    def values(self, extras: Mapping[str, Any], module: nn.Module, most: int | None) -> dict[str, Tensor]:
        """The parameters of a task, from its extras. ShapeError for others, or a head of more than `most` classes."""
        found, of_head = {}, self.of_head
        for name in self.names:
            if name not in extras:
                raise ShapeError(f"extras: expected {len(self.names)} parameters of the task's own, found no {name!r}")
            value, own = statistics.number_tensor(name, extras[name]), _parameter(module, name).detach()
            shape = tuple(value.shape)
            if name in of_head:
                classes = shape[0] if shape else 0
                if shape[1:] != tuple(own.shape[1:]) or len(shape) != own.ndim or not 0 < classes <= (most or classes):
                    rows = "classes" if most is None else f"1 to {most} classes"
                    sizes = ", ".join((rows, *map(str, own.shape[1:])))
                    raise ShapeError(f"extras {name!r}: expected a head of shape ({sizes}), found {shape}")
                found[name] = value.to(own)
                continue
            if shape != tuple(own.shape):
                raise ShapeError(f"extras {name!r}: expected shape {tuple(own.shape)}, found {shape}")
            found[name] = own + value.to(own)
        if self.head is not None and len({len(found[name]) for name in of_head}) > 1:
            weight, bias = (tuple(found[name].shape) for name in of_head)
            raise ShapeError(f"extras {of_head[1]!r}: expected as many classes as {weight}, found {bias}")
        return found

    def put_into(self, module: nn.Module, values: Mapping[str, Tensor]) -> None:
        """Make a task's parameters those of a plain module."""
        for name in self.names:
            path, _, attribute = name.rpartition(".")
            parameter = nn.Parameter(values[name].detach().clone(), requires_grad=False)
            module.get_submodule(path)._parameters[attribute] = parameter
        if self.head is not None:
            layer = module.get_submodule(self.head)
            assert isinstance(layer, nn.Linear)
            layer.out_features = len(values[self.of_head[0]])


def check_finite(values: Mapping[str, Tensor]) -> None:
    """StatisticsError for parameters of a task that are NaN or infinite: a network answers NaN under them."""
    if bool(torch.cat([value.detach().reshape(-1) for value in values.values()]).isfinite().all()):
        return
    name = next(name for name, value in values.items() if not bool(value.isfinite().all()))
    raise StatisticsError(f"extras {name!r}: expected finite numbers, found NaN or infinity; train the task again")


def _parameter(module: nn.Module, name: str) -> Tensor:
    """A parameter by its name, as `get_parameter`, in a tenth of the time."""
    *path, attribute = name.split(".")
    for step in path:
        module = module._modules[step]  # type: ignore[assignment] # `find_own` has seen that it is there
    return module._parameters[attribute]  # type: ignore[return-value]


def head_path(module: nn.Module, head: str | None) -> str | None:
    """The path of a head; ConversionError for one that is no plain linear layer with a bias of its own."""
    if head is None:
        return None
    expect("head", head, str, "the dotted path of a Linear")
    try:
        layer = module.get_submodule(head) if head else module
    except AttributeError:
        layer = None
    if type(layer) is not nn.Linear or layer.bias is None or not head:
        found = "nothing there" if layer is None else f"a {type(layer).__name__}"
        linear = [(path, part) for path, part in module.named_modules() if type(part) is nn.Linear]
        hint = f"; {linear[-1][0]!r} is one" if linear and linear[-1][0] and linear[-1][1].bias is not None else ""
        if type(layer) is nn.Linear and getattr(layer, "bias", 0) is None:
            found = "one without"
            hint = "; `layer.bias = nn.Parameter(torch.zeros(layer.out_features))` gives it one that changes nothing"
        raise ConversionError(f"head {head!r:.80}: expected the path of a Linear with a bias, found {found}{hint}")
    return head


def find_own(
    module: nn.Module,
    masked: tuple[MaskedParameter, ...],
    skipped: frozenset[str],
    head: str | None,
    parts: Iterable[str],
) -> Own:
    """What is a task's own in a module. UnknownNameError for other parts, ConversionError where there is nothing."""
    wanted = (parts,) if isinstance(parts, str) else tuple(expect("own", parts, Iterable, '"bias", "norm" or both'))
    for part in wanted:
        check("own", part, OWN_PARTS)
    owners = {name.rpartition(".")[0] for parameter in masked for name in parameter.names}
    changed, fixed = list[str](), list[str]()
    for path, owner in module.named_modules():
        of_mask = "bias" in wanted and any(path == each or path == f"{each}.out_proj" for each in owners)
        if of_mask:
            changed += [joined(path, name) for name in _BIASES if owner._parameters.get(name) is not None]
        if "norm" in wanted and path not in skipped and isinstance(owner, NORMALISATIONS):
            affine = [name for name in ("weight", "bias") if owner._parameters.get(name) is not None]
            changed += [joined(path, name) for name in affine]
            if len(affine) == 2 and isinstance(owner, TRACKING_NORMALISATIONS) and owner.track_running_stats:
                fixed.append(path)
    names = [name for name, _ in module.named_parameters()]
    shared = [name for name in changed if name not in names]
    if shared:
        raise ConversionError(f"own: expected parameters that one module has, found {shared[0]!r}, which others share")
    for part in wanted if not changed else ():
        raise ConversionError(f"own: expected {part!r} parameters in {type(module).__name__}, found none")
    return Own(head, tuple(changed), tuple(fixed))
