"""`BlockMemory`: memories over consecutive slices of one state, such as one memory for each layer of a network."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import DeviceError, EmptyMemoryError, RuleError
from hopfield.memories import storage
from hopfield.memories.base import Memory


@storage.register
class BlockMemory(Memory):
    """Side by side memories that each see their own slice of the state; energies add, fields join.

    The couplings between blocks are zero, so `B` equal blocks take 1/B of the bytes of one memory over all neurons,
    and each holds 1/B of the patterns.

    Args:
        blocks: The memories, in the order of their slices. They hold equally many patterns and lie on one device.

    Raises:
        EmptyMemoryError: No block.
        RuleError: Blocks of different numbers of patterns.
        DeviceError: Blocks on different devices.

    Examples:
        >>> import torch
        >>> from hopfield import BlockMemory, HopfieldNetwork, patterns
        >>> memory = BlockMemory([HopfieldNetwork(100), HopfieldNetwork(60)])
        >>> stored = patterns.random_patterns(3, 160, torch.Generator().manual_seed(0))
        >>> memory.store(stored)
        >>> len(memory), memory.dim
        (3, 160)
        >>> torch.equal(memory.recall(stored), stored)
        True
    """

    def __init__(self, blocks: Sequence[Memory]) -> None:
        if not blocks:
            raise EmptyMemoryError("BlockMemory: expected at least one block, found none")
        if len({len(block) for block in blocks}) > 1:
            raise RuleError(f"BlockMemory: expected equal numbers of patterns, found {[len(b) for b in blocks]}")
        if len({block.device for block in blocks}) > 1:
            raise DeviceError(f"BlockMemory: expected one device, found {sorted({str(b.device) for b in blocks})}")
        self.blocks = tuple(blocks)
        self._sizes = [block.dim for block in blocks]
        self.dim = sum(self._sizes)

    def __len__(self) -> int:
        return len(self.blocks[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(block.nbytes for block in self.blocks)

    @property
    def limit(self) -> float:
        """The smallest limit of a block, patterns."""
        return min(block.limit for block in self.blocks)

    @property
    def device(self) -> torch.device:
        """Where fields are computed."""
        return self.blocks[0].device

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`."""
        edges = np.cumsum(self._sizes)
        index = int(np.searchsorted(edges, neuron, side="right"))
        start = int(edges[index]) - self._sizes[index]
        return self.blocks[index].field_at(state[:, start : int(edges[index])], neuron - start)

    def _learn(self, new: Tensor) -> Callable[[], None]:
        commits = [block._learn(part) for block, part in zip(self.blocks, self._split(new), strict=True)]

        def commit() -> None:
            for one in commits:
                one()

        return commit

    def _move(self, device: torch.device) -> None:
        for block in self.blocks:
            block._move(device)

    def _fields(self, states: Tensor) -> Tensor:
        return torch.cat([b._fields(part) for b, part in zip(self.blocks, self._split(states), strict=True)], dim=1)

    def _energies(self, states: Tensor) -> Tensor:
        parts = zip(self.blocks, self._split(states), strict=True)
        return torch.stack([block._energies(part) for block, part in parts]).sum(0)

    def _split(self, states: Tensor) -> tuple[Tensor, ...]:
        return torch.split(states, self._sizes, dim=1)

    def _header(self) -> dict[str, Any]:
        return {"blocks": [{"kind": type(block).__name__, **block._header()} for block in self.blocks]}

    def _arrays(self) -> dict[str, Any]:
        return {f"{i}.{name}": array for i, block in enumerate(self.blocks) for name, array in block._arrays().items()}

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        blocks = []
        for i, part in enumerate(header["blocks"]):
            prefix = f"{i}."
            own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            blocks.append(storage.kind(part["kind"])._restore(part, own))
        return cls(blocks)

    def __repr__(self) -> str:
        return f"BlockMemory({', '.join(map(repr, self.blocks))})"
