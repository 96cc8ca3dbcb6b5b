"""One call's own copy of a module tree, so that no two calls share anything that a mask changes.

The copy holds the module's tensors and attributes in module objects of its own. Weights and statistics can be put into
it while other threads run the same module. A checkpoint that computes a part again later finds them there.

No call sees what another one has assigned: it may have been computed from another task's weights. What forward assigns
to attributes can be looked at in the module after the call, but the next call starts without it. Assigned parameters,
buffers and submodules are dropped.
"""

import os
import sys
import warnings
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from copy import copy as shallow
from enum import Enum
from functools import partial
from operator import is_
from threading import RLock
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from supsup_models.errors import NetworkError, SharedStateWarning
from supsup_models.networks.convert.layers import joined

_TORCH_STATE = frozenset(nn.Module().__dict__)
"""The attributes that torch itself keeps on every module."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PLAIN = (  # the most frequent first
    *(str, int, float, type(None), Tensor, torch.dtype, torch.device, torch.Size),
    *(type, FunctionType, ModuleType, Enum),
)
"""What holds no module, or none that a copy would not hold itself."""
_MOST_ARE = frozenset((str, int, float, bool, type(None), Tensor, nn.Parameter))
"""The classes of nearly all attributes: to look one up takes a fraction of the time of `isinstance`."""
_DEPTH = 4  # of lists in dicts in objects, in which modules are looked for


class _Nothing(Enum):
    """What an attribute is that is not there. (An enumeration, because copies and pickles of it are itself.)"""

    ABSENT = "absent"


_ABSENT = _Nothing.ABSENT
_LOCK = RLock()
"""Held while attributes pass between a module and a copy."""


def _renew_lock() -> None:
    """In the child of a fork: a thread that held the lock is not there."""
    global _LOCK
    _LOCK = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Assigned(NamedTuple):
    """An attribute that a forward has assigned: what it is when a call begins, and what was assigned last."""

    start: Any
    last: Any


class _Copied(NamedTuple):
    """A module and its copy, with the copy's attributes and buffers as they were before the call."""

    path: str
    original: nn.Module
    copy: nn.Module
    attributes: dict[str, Any]
    buffers: dict[str, Tensor | None]
    versions: dict[str, int]
    """How often each buffer had been written to."""
    trains: bool
    """Whether it was put into training mode. Its buffers are then copies, all but those that were put in."""


class CallCopy:
    """A copy of a module tree for one call.

    Args:
        module: The tree.
        assigned: What earlier calls have assigned to attributes, by the module's path and the attribute's name. It is
            kept up to date here.
        train: Whether its modules are put into training mode. Otherwise each keeps its mode. A module in training has
            copies of its buffers, so that training one task leaves nothing to the others.
        skipped: Paths of the modules that are never put into training mode.
        differentiated: Whether gradients of the weights are wanted. Then a NetworkError says where they would get lost.
    """

    def __init__(
        self,
        module: nn.Module,
        assigned: dict[str, dict[str, Assigned]],
        *,
        train: bool = False,
        skipped: Collection[str] = (),
        differentiated: bool = False,
    ) -> None:
        self._assigned, self._train, self._skipped = assigned, train, skipped
        self._differentiated = differentiated
        self._copies: dict[int, nn.Module] = {}  # by the id of the module
        self._paths: dict[str, nn.Module] = {}  # the same by path; of a module with several paths, by the first
        self._copied: dict[int, _Copied] = {}  # by the id of the copy
        self._put: set[tuple[int, str]] = set()
        with _LOCK:
            self.module = self._copy(module, "")
        for entry in self._copied.values():
            for name, value in entry.attributes.items():
                if value.__class__ in _MOST_ARE:
                    continue
                if name not in _TORCH_STATE or (value and name in _HOOKS):
                    moved = _moved(value, self._copies)
                    if moved is not value:
                        entry.attributes[name] = entry.copy.__dict__[name] = moved

    def put(self, name: str, value: Tensor | None) -> None:
        """Put a tensor in the place of a parameter or a buffer, by its name in the state dict."""
        path, _, attribute = name.rpartition(".")
        owner = self.submodule(path)
        if attribute in owner._parameters:
            owner._parameters[attribute] = value  # type: ignore[assignment] # as functional_call does
        else:
            owner._buffers[attribute] = value
            self._copied[id(owner)].buffers[attribute] = value
            self._put.add((id(owner), attribute))

    def submodule(self, path: str) -> nn.Module:
        """The copy of the module at a path; as `get_submodule` of the tree, in less time."""
        found = self._paths.get(path)
        return self.module.get_submodule(path) if found is None else found

    def end(self) -> None:
        """Show in the module what its forward has assigned; SharedStateWarning for a buffer that the call changed."""
        originals = {id(entry.copy): entry.original for entry in self._copied.values()}
        for entry in self._copied.values():
            for name, value in entry.copy.__dict__.items():
                start = entry.attributes.get(name, _ABSENT)
                if start is not value and name not in _TORCH_STATE:
                    shown = Assigned(_moved(start, originals), _moved(value, originals))
                    with _LOCK:
                        self._assigned.setdefault(entry.path, {})[name] = shown
                        entry.original.__dict__[name] = shown.last
            for name, buffer in entry.copy._buffers.items():
                if (id(entry.copy), name) in self._put:
                    continue
                if entry.buffers.get(name, _ABSENT) is not buffer or _version(buffer) != entry.versions[name]:
                    _warn(joined(entry.path, name), kept=not entry.trains and entry.buffers.get(name) is buffer)

    def _copy(self, module: nn.Module, path: str) -> nn.Module:
        """A module's copy, with those of all modules in it."""
        found = self._copies.get(id(module))
        if found is not None:
            return found
        if isinstance(module, torch.jit.ScriptModule):  # its tensors are not in Python, so none is masked
            return module
        copy: nn.Module = object.__new__(type(module))
        self._copies[id(module)] = self._paths[path] = copy
        state = copy.__dict__
        state.update(module.__dict__)
        state.pop("_compiled_call_impl", None)  # of `module.compile()`, which would run the module itself
        for name, (start, last) in self._assigned.get(path, {}).items():
            if state.get(name) is last:  # otherwise a caller has set it since
                state[name] = start
                if start is _ABSENT:
                    del state[name]
        state["_parameters"] = dict(module._parameters)
        state["_buffers"] = buffers = dict(module._buffers)
        state["_non_persistent_buffers_set"] = set(module._non_persistent_buffers_set)
        if self._differentiated:
            state["_forward_pre_hooks"] = OrderedDict(module._forward_pre_hooks)
            copy.register_forward_pre_hook(partial(_refuse_reentrant, path))
        trains = self._train and path not in self._skipped
        if trains:
            state["training"] = True
            buffers.update((name, buffer.clone()) for name, buffer in buffers.items() if buffer is not None)
        self._copied[id(copy)] = _Copied(
            path,
            module,
            copy,
            dict(state),
            dict(buffers),
            {name: _version(buffer) for name, buffer in buffers.items()},
            trains,
        )
        state["_modules"] = {
            name: None if child is None else self._copy(child, joined(path, name))
            for name, child in module._modules.items()
        }
        return copy


def _refuse_reentrant(path: str, module: nn.Module, args: Any) -> None:
    """NetworkError in a part that a reentrant checkpoint runs: it gives gradients to the part's own tensors alone.

    Masked weights are no tensors of the part, but computed from the scores before it.
    """
    frame = None if torch.is_grad_enabled() else sys._getframe()
    while frame is not None:
        if frame.f_code is CheckpointFunction.forward.__code__:
            raise NetworkError(
                f"{path or type(module).__name__}: expected a checkpoint that gives masked weights their gradients, "
                "found one that does not; torch.utils.checkpoint does with `use_reentrant=False`"
            )
        frame = frame.f_back


def _version(buffer: Tensor | None) -> int:
    return 0 if buffer is None or buffer.is_inference() else buffer._version


def _warn(name: str, *, kept: bool) -> None:
    what = "all tasks now have the new values" if kept else "the change was dropped, because it is of no task"
    warnings.warn(
        f"{name}: expected a buffer that calls leave as it is, found it changed; {what}",
        SharedStateWarning,
        stacklevel=6,
    )


def _moved(value: Any, known: Mapping[int, nn.Module], depth: int = _DEPTH) -> Any:
    """The same value with other modules in it, `known[id(module)]` for each; the very value if there are none in it."""
    if isinstance(value, nn.Module):
        return known.get(id(value), value)
    if isinstance(value, _PLAIN) or not depth:
        return value
    if isinstance(value, dict | list | tuple | set | frozenset):  # a vocabulary is long, and holds no module
        parts = value.values() if isinstance(value, dict) else value
        if all(part.__class__ in _MOST_ARE or isinstance(part, _PLAIN) for part in parts):
            return value
    if isinstance(value, MethodType):
        owner = _moved(value.__self__, known, depth - 1)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if isinstance(value, partial):
        made_of = (value.func, value.args, value.keywords)
        moved = tuple(_moved(part, known, depth - 1) for part in made_of)
        return value if all(map(is_, made_of, moved)) else partial(moved[0], *moved[1], **moved[2])
    if isinstance(value, dict):
        changed = {key: new for key, old in value.items() if (new := _moved(old, known, depth - 1)) is not old}
        return _updated(value, changed) if changed else value
    if isinstance(value, list | tuple | set | frozenset | deque):
        items = [_moved(item, known, depth - 1) for item in value]
        if all(map(is_, items, value)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(attributes := getattr(value, "__dict__", None), dict):
        changed = {name: new for name, old in attributes.items() if (new := _moved(old, known, depth - 1)) is not old}
        if changed:
            other = object.__new__(type(value))
            other.__dict__.update(attributes | changed)
            return other
    return value


def _updated(value: dict[Any, Any], changed: Mapping[Any, Any]) -> dict[Any, Any]:
    other = shallow(value)
    other.update(changed)
    return other
