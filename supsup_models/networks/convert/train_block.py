"""Blocks in which calls of a module train: known to one thread, and with dropout drawn from a seed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock

import torch
from torch import nn

# Newest first. A context variable, so that neither another thread nor another task of an event loop sees it.
_IN_TRAINING: ContextVar[tuple[nn.Module, ...]] = ContextVar("in_training", default=())
_DROPOUT = RLock()
"""Held while dropout is drawn from a seed: torch has one generator for all threads."""


def _renew_lock() -> None:
    """In the child of a fork: a thread that held the lock is not there."""
    global _DROPOUT
    _DROPOUT = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def trains(model: nn.Module) -> bool:
    """Whether this thread is in a block of the model."""
    return any(model is other for other in _IN_TRAINING.get())


@contextmanager
def train_block(model: nn.Module, seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Within this context calls of the model train, and torch draws what the seed and the step give.

    A block holds for its own thread. Blocks of several threads wait for each other.
    """
    devices = [device] if device.type == "cuda" else []
    with _DROPOUT, torch.random.fork_rng(devices=devices):
        torch.manual_seed((seed * 0x9E3779B1 + step) % (1 << 63))
        token = _IN_TRAINING.set((model, *_IN_TRAINING.get()))
        try:
            yield
        finally:
            _IN_TRAINING.reset(token)
