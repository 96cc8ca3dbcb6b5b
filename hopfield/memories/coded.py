"""`CodedMemory`: it keeps patterns with few ones as gaps, in fewer bytes than packed bits take."""

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hopfield import patterns as pt
from hopfield.errors import DeviceError, DimensionError, ForgetError, MemoryFileError, PatternError, RuleError
from hopfield.memories import gap_loops, storage
from hopfield.memories.base import Memory
from maskstore import MaskMatrix
from maskstore.torch import as_device


@storage.register
class CodedMemory(Memory):
    """`E(z) = -log(sum_a exp(beta x_a . z)) / beta`, the exponential energy of `DenseAssociativeMemory`, over coded
    patterns.

    The patterns are kept as the gaps between their ones, in Golomb-Rice codes (`hopfield.memories.gap_loops`), and
    nothing else is. The code follows the density, which may change from layer to layer. Random patterns with a share p
    of ones take 1.01 to 1.05 H(p) bits a neuron, with H the entropy of a coin: 0.2 of the packed bytes at p = 0.03,
    0.74 at p = 0.2, and as much as packed bits from p = 0.4 on.

    A field reads the stream twice, from one end to the other, which takes a few nanoseconds for each one of a pattern.
    It is computed on the CPU, whatever `device` is. Storing and forgetting write the stream anew.

    Args:
        dim: Number of neurons d, at least 1.
        beta: Steepness of the energy, in (0, 100].
        device: Where states lie.

    Raises:
        DimensionError: `dim` is no whole number of at least 1.
        RuleError: `beta` is outside its range.
        DeviceError: Torch cannot use the device here.

    Source:
        Ramsauer et al., "Hopfield networks is all you need", ICLR 2021, for the energy; `DenseAssociativeMemory` for
        the field.

    Examples:
        >>> import torch
        >>> from hopfield import CodedMemory, patterns
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.sparse_patterns(250, 2048, 102, generator)
        >>> memory = CodedMemory(2048)
        >>> memory.store(stored)
        >>> cues = patterns.move_ones(stored, 80, generator)  # of 102 ones, 22 are right
        >>> torch.equal(memory.recall(cues), stored)
        True
        >>> memory.nbytes, 250 * 2048 // 8  # bytes of the memory, of the packed patterns
        (18464, 64000)
    """

    def __init__(self, dim: int, *, beta: float = 1.0, device: torch.device | str = "cpu") -> None:
        if not isinstance(dim, int | np.integer) or isinstance(dim, bool) or not 1 <= dim < 1 << 31:
            raise DimensionError(f"CodedMemory: expected a whole number of neurons, at least one, found {dim!r:.40}")
        if not 0 < beta <= 100:
            raise RuleError(f"CodedMemory: expected beta in (0, 100], found {beta}")
        self.dim, self.beta = int(dim), float(beta)
        self._device = as_device(device, DeviceError)
        self._count, self._ones = 0, 0
        self._words: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)

    @classmethod
    def of_patterns(cls, patterns: Any, *, beta: float = 1.0, device: torch.device | str = "cpu") -> Self:
        """A memory of patterns `(k, d)`, bool or -1/+1, or of a `MaskMatrix`. Other arguments are the class's."""
        if isinstance(patterns, MaskMatrix):
            memory = cls(patterns.spec.bits, beta=beta, device=device)
            rows = [_places(patterns[row].flat()[None]) + row * memory.dim for row in range(len(patterns))]
            memory._put(np.concatenate([memory._read(), *rows]))()
            return memory
        signs = pt.as_patterns(patterns)
        memory = cls(signs.shape[1], beta=beta, device=device)
        memory.store(signs)
        return memory

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the stream."""
        return self._words.nbytes

    @property
    def limit(self) -> float:
        """No limit: patterns are recalled as long as they differ."""
        return math.inf

    @property
    def device(self) -> torch.device:
        """Where states are brought; fields are computed on the CPU."""
        return self._device

    def forget(self, patterns: Any) -> None:
        """Take stored patterns out again.

        Args:
            patterns: As in `store`.

        Raises:
            ForgetError: A pattern that is not stored.
        """
        places = self._read()
        kept = dict(enumerate(np.split(places % self.dim, np.flatnonzero(np.diff(places // self.dim)) + 1)))
        for row in pt.to_bits(pt.as_patterns(patterns, self.dim, device="cpu")).numpy():
            ones = np.flatnonzero(row)
            found = next((number for number, stored in kept.items() if np.array_equal(stored, ones)), None)
            if found is None or not self._count:
                raise ForgetError(f"forget: expected stored patterns, found one with {len(ones)} ones that is not")
            del kept[found]
        rows = [stored + self.dim * number for number, stored in enumerate(kept.values())]
        self._put(np.concatenate([np.zeros(0, dtype=np.int64), *rows]))()

    def field_at(self, state: Tensor, neuron: int) -> Tensor:
        """Local field of one neuron: `(b, d)` -> `(b,)`. It takes all fields, so an asynchronous sweep is slow."""
        return self._fields(state)[:, neuron]

    def _learn(self, new: Tensor) -> Callable[[], None]:
        return self._put(
            np.concatenate([self._read(), _places(pt.to_bits(new).cpu().numpy()) + self._count * self.dim])
        )

    def _put(self, places: NDArray[np.int64]) -> Callable[[], None]:
        """Code the ones at these places of the row of all patterns, changing nothing yet."""
        words = np.zeros((gap_loops.stream_bits(places) + 63) // 64, dtype=np.uint64)
        gap_loops.write(places, words)

        def commit() -> None:
            self._words, self._ones = words, len(places)
            self._count = int(places[-1]) // self.dim + 1 if len(places) else 0

        return commit

    def _read(self) -> NDArray[np.int64]:
        """The places of all ones; MemoryFileError unless the stream has them."""
        places = np.zeros(self._ones, dtype=np.int64)
        if self._ones and not gap_loops.read(self._words, self._ones, self.dim, self._count, places):
            raise MemoryFileError(f"patterns: expected {self._ones} ones in {self._count} patterns, found others")
        return places

    def _move(self, device: torch.device) -> None:
        self._device = device

    def _dot(self, states: Tensor) -> Tensor:
        """`X z`: `(b, d)` -> `(b, k)` float64, on the CPU."""
        out = np.zeros((self._count, len(states)))
        columns = np.ascontiguousarray(states.detach().cpu().numpy().T)
        gap_loops.add(self._words, self._ones, self.dim, columns, out, False)
        return 2 * torch.from_numpy(out).T - states.cpu().sum(dim=1, dtype=torch.float64, keepdim=True)

    def _fields(self, states: Tensor) -> Tensor:
        pull = torch.softmax(self.beta * self._dot(states), dim=1)
        out = np.zeros((self.dim, len(states)))
        columns = np.ascontiguousarray(pull.numpy().T)
        gap_loops.add(self._words, self._ones, self.dim, columns, out, True)
        return (2 * torch.from_numpy(out).T - 1).float().to(states) - math.tanh(self.beta) * states

    def _energies(self, states: Tensor) -> Tensor:
        return -(torch.logsumexp(self.beta * self._dot(states), dim=1) / self.beta).float().to(states)

    def _header(self) -> dict[str, Any]:
        return {"dim": self.dim, "count": self._count, "ones": self._ones, "beta": self.beta}

    def _arrays(self) -> dict[str, Any]:
        return {"stream": self._words}

    @classmethod
    def _restore(cls, header: dict[str, Any], arrays: dict[str, Any]) -> Self:
        memory = cls(storage.natural(header, "dim"), beta=header["beta"])
        words, ones = arrays["stream"], storage.natural(header, "ones")
        if words.dtype != np.uint64 or words.ndim != 1 or ones > 64 * len(words):
            raise MemoryFileError(f"stream: expected words of 64 bits with {ones} ones, found {words.shape}")
        memory._words, memory._ones = words, ones
        memory._count = storage.natural(header, "count")
        if bool(memory._count) != bool(ones) or memory._count > ones:
            raise MemoryFileError(f"patterns: expected a one in each of {memory._count}, found {ones} ones")
        memory._read()
        return memory

    def __repr__(self) -> str:
        return f"CodedMemory({self.dim} neurons, {self._count} patterns, {self._ones} ones, {self.nbytes} bytes)"


def _places(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places of the ones in the row of all patterns `(k, d)`; PatternError for a pattern without a one."""
    if not bits.any(axis=1).all():
        raise PatternError("store: expected patterns with at least one neuron on, found one with none")
    return np.flatnonzero(bits)
