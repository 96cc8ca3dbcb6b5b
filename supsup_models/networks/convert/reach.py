"""What a module reaches by other ways than its parameters and submodules, where a copy of it would not follow.

A copy of a module has the modules, lists, dicts and methods of the original copied with it. A function keeps what it
was made with: in a copy, it would run the original, with all of its weights.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from gc import get_referents
from itertools import chain
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, NamedTuple
from weakref import ReferenceType

from torch import Tensor, nn

from supsup_models.errors import ConversionError
from supsup_models.networks.convert.layers import joined

_DEPTH = 8
_FOLLOWED = 4  # of these, as deep as a call's copy looks (`call_copy`)
_TORCH_STATE = frozenset(nn.Module().__dict__)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class _Span(NamedTuple):
    """Where a tensor lies: its storage, the first element, and the end."""

    storage: int
    first: int
    end: int


def check_reach(module: nn.Module, masked: Collection[str]) -> None:
    """ConversionError if parts of a module are reached in ways that a copy, or a mask, would not follow.

    Args:
        module: The module.
        masked: All names of its masked parameters.
    """
    modules = set(module.modules())
    weights = {name: module.get_parameter(name) for name in masked}
    own = {id(weight): name for name, weight in weights.items()}
    spans: dict[int, dict[str, _Span]] = {}  # of masked weights, by storage
    for name in own.values():
        if (span := _span(weights[name])) is not None:
            spans.setdefault(span.storage, {})[name] = span
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        _check_apart(name, tensor, spans, own.get(id(tensor)))
    for path, owner in module.named_modules():
        for attribute, value in owner.__dict__.items():
            if attribute in _TORCH_STATE and attribute not in _HOOKS:
                continue
            name = joined(path, attribute)
            for found, captured in _reached(value, False, _DEPTH, set()):
                if captured and found in modules:
                    raise ConversionError(
                        f"{name}: expected modules that are reached as attributes, found a {type(found).__name__} in a "
                        "function, weak reference, iterator, dict key, slot or deep nest; a copy would run the "
                        "original, without a mask"
                    )
                if isinstance(found, Tensor):
                    if id(found) in own:
                        raise ConversionError(
                            f"{name}: expected masked weights only as parameters of modules, found one held elsewhere"
                        )
                    _check_apart(name, found, spans)


def _check_apart(name: str, tensor: Tensor, spans: dict[int, dict[str, _Span]], itself: str | None = None) -> None:
    """ConversionError if a tensor shares memory with a masked weight; `itself` is the weight that it is."""
    here = _span(tensor)
    for masked, there in spans.get(here.storage, {}).items() if here is not None else ():
        if masked != itself and here is not None and here.first < there.end and there.first < here.end:
            raise ConversionError(
                f"{name}: expected a tensor with memory of its own, found one in the memory of the masked {masked!r}; "
                "to tie them, use one nn.Parameter in both places"
            )


def _span(tensor: Tensor) -> _Span | None:
    try:
        storage = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError, AttributeError):  # sparse and other tensors without one memory
        return None
    if not tensor.numel():
        return None
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    first = int(tensor.storage_offset()) * tensor.element_size()
    return _Span(storage, first, first + (int(last) + 1) * tensor.element_size())


def _reached(value: Any, captured: bool, depth: int, seen: set[int]) -> Iterator[tuple[Any, bool]]:
    """The modules and tensors that a value holds, and whether a function or a weak reference holds them."""
    if isinstance(value, nn.Module | Tensor):
        yield value, captured or depth < _DEPTH - _FOLLOWED
        return
    if not depth or id(value) in seen or isinstance(value, str | bytes | int | float | type | ModuleType | None):
        return
    seen.add(id(value))
    inner: list[Any] = []
    if isinstance(value, FunctionType):
        captured = True
        inner += [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        inner += [value.__defaults__, value.__kwdefaults__, value.__dict__]
    elif isinstance(value, ReferenceType):
        captured, inner = True, [value()]
    elif isinstance(value, MethodType):
        inner = [value.__self__, value.__func__]
    elif isinstance(value, partial):
        inner = [value.func, value.args, value.keywords]
    elif isinstance(value, dict):
        inner = list(value.values())
        yield from _reached(list(value), True, depth - 1, seen)  # a copy has other values, and the same keys
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    elif isinstance(getattr(value, "__dict__", None), dict):
        inner = list(value.__dict__.values())
    elif isinstance(value, Iterator):  # of itertools, for example: what it goes over is in no attribute
        captured, inner = True, get_referents(value)
    for each in _slots(value):
        yield from _reached(each, True, depth - 1, seen)
    for each in inner:
        yield from _reached(each, captured, depth - 1, seen)


def _slots(value: Any) -> list[Any]:
    """What an object keeps in `__slots__`, which a copy would share."""
    kinds = (kind for kind in type(value).__mro__ if "__slots__" in kind.__dict__)
    slots = (each for kind in kinds for each in kind.__dict__.values() if isinstance(each, MemberDescriptorType))
    found = []
    for slot in slots:
        with suppress(AttributeError):  # a slot that was never filled
            found.append(slot.__get__(value))
    return found


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not _is_filled
    except ValueError:  # a variable that is not yet, or no longer, there
        return False
