"""Patterns and states: mask bits <-> spins of -1 and +1, and the measures between them.

A mask bit 1 is the spin +1, a bit 0 the spin -1. Patterns are float32 tensors of shape `(k, d)`: k patterns of d
neurons. States and cues may lie anywhere between the spins.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hopfield.errors import DimensionError, PatternError
from maskstore import MaskMatrix
from maskstore.masks import bits
from maskstore.torch import packed_bytes, unpacked, unpacked_tiles


def as_patterns(patterns: Any, dim: int | None = None, *, device: torch.device | str | None = None) -> Tensor:
    """Patterns as a tensor of spins.

    Args:
        patterns: A tensor or array of bool or -1/+1, `(k, d)` or `(d,)`, or a `MaskMatrix` (its bits over all layers,
            without padding). Numbers 0 and 1 are ambiguous and refused: convert them to bool first.
        dim: The number of neurons d that is expected; None takes any.
        device: Where the tensor is to lie; None leaves it where it is.

    Returns:
        Float32 of -1 and +1, `(k, d)`; a single pattern is `(1, d)`.

    Raises:
        PatternError: Other values.
        DimensionError: Another shape, or another number of neurons than `dim`.

    Examples:
        >>> from hopfield import patterns
        >>> patterns.as_patterns([[True, False, True]])
        tensor([[ 1., -1.,  1.]])
    """
    if isinstance(patterns, MaskMatrix):
        signs = from_matrix(patterns)
    else:
        values = _tensor(patterns, "patterns")
        if values.dtype == torch.bool:
            signs = values.to(torch.float32) * 2 - 1
        else:
            wrong = (values != 1) & (values != -1)
            if bool(wrong.any()):
                found = values[wrong].flatten()[0].item()
                raise PatternError(f"patterns: expected bool or values -1 and +1, found {found}")
            signs = values.to(torch.float32)
    signs = signs.unsqueeze(0) if signs.ndim == 1 else signs
    if signs.ndim != 2 or (dim is not None and signs.shape[1] != dim):
        raise DimensionError(f"patterns: expected shape (k, {dim or 'd'}), found {tuple(signs.shape)}")
    return signs if device is None else signs.to(device)


def as_state(state: Any, dim: int, *, device: torch.device | str | None = None) -> Tensor:
    """A real-valued state or cue as a tensor.

    Args:
        state: A tensor or array of numbers, or of bool, which counts as -1/+1; `(d,)` or `(b, d)`.
        dim: The number of neurons d.
        device: Where the tensor is to lie; None leaves it where it is.

    Returns:
        Float32, the shape of `state`.

    Raises:
        DimensionError: Another shape or number of neurons.
        PatternError: NaN, infinity, or no numbers at all.

    Examples:
        >>> from hopfield import patterns
        >>> patterns.as_state([0.5, -1.0], 2)
        tensor([ 0.5000, -1.0000])
    """
    values = _tensor(state, "state")
    values = values.to(torch.float32) * 2 - 1 if values.dtype == torch.bool else values.to(torch.float32)
    if values.ndim not in (1, 2) or values.shape[-1] != dim:
        raise DimensionError(f"state: expected shape ({dim},) or (b, {dim}), found {tuple(values.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise PatternError("state: expected finite values, found NaN or infinity")
    return values if device is None else values.to(device)


def from_matrix(matrix: MaskMatrix) -> Tensor:
    """All masks of a matrix as patterns of -1 and +1, `(k, spec.bits)` float32, layers in spec order.

    Examples:
        >>> from hopfield import patterns
        >>> from maskstore import Mask, MaskMatrix, MaskSpec
        >>> spec = MaskSpec({"fc": (1, 3)})
        >>> patterns.from_matrix(MaskMatrix(spec, [Mask.from_dense({"fc": [[1, 0, 1]]}, spec)]))
        tensor([[ 1., -1.,  1.]])
    """
    tiles = unpacked_tiles(packed_bytes(matrix.rows), matrix.spec)
    return 2 * torch.cat([dense for _, dense in tiles], dim=1) - 1


def to_bits(states: Tensor) -> Tensor:
    """Mask bits of states: True where the spin is positive; same shape, bool.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> patterns.to_bits(torch.tensor([0.3, -1.0]))
        tensor([ True, False])
    """
    return states > 0


def to_soft_mask(state: Tensor) -> Tensor:
    """Spins in [-1, 1] as a soft mask in [0, 1]; same shape.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> patterns.to_soft_mask(torch.tensor([1.0, 0.0, -1.0]))
        tensor([1.0000, 0.5000, 0.0000])
    """
    return (state + 1) / 2


def signs_or(field: Tensor, state: Tensor) -> Tensor:
    """Sign of the field as -1/+1; where the field is exactly 0 the neuron keeps its state.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> patterns.signs_or(torch.tensor([0.3, 0.0]), torch.tensor([-1.0, -1.0]))
        tensor([ 1., -1.])
    """
    return torch.where(field > 0, 1.0, torch.where(field < 0, -1.0, state))


def pack(patterns: Tensor) -> np.ndarray:
    """Patterns `(k, d)` as packed bits `(k, ceil(d / 64))`, uint64, bit order as in `maskstore.masks.bits`.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> patterns.pack(torch.tensor([[1.0, -1.0, 1.0]])).tolist()
        [[5]]
    """
    dense = to_bits(patterns).cpu().numpy()
    rows = [bits.pack(row) for row in dense]
    return np.stack(rows) if rows else np.zeros((0, (patterns.shape[1] + 63) // 64), dtype=np.uint64)


def unpack(words: np.ndarray, dim: int) -> Tensor:
    """Packed bits `(k, ceil(d / 64))` as patterns of -1 and +1, `(k, d)` float32; the inverse of `pack`.

    Examples:
        >>> import numpy as np
        >>> from hopfield import patterns
        >>> patterns.unpack(np.array([[5]], dtype=np.uint64), 3)
        tensor([[ 1., -1.,  1.]])
    """
    return 2 * unpacked(packed_bytes(words), dim) - 1


def activity(patterns: Tensor) -> float:
    """Mean spin over all patterns and neurons, in [-1, 1]; 0 for unbiased patterns, nan for none.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> patterns.activity(torch.tensor([[1.0, 1.0, 1.0, -1.0]]))
        0.5
    """
    return float(patterns.mean(dtype=torch.float64))


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Overlaps `m = a . b / d` in [-1, 1]: `(n, d)` with `(k, d)` -> `(n, k)`; a single `(d,)` drops its dimension.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> stored = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]])
        >>> patterns.overlap(torch.tensor([1.0, 1.0, 1.0, -1.0]), stored)
        tensor([0.5000, 0.5000])
    """
    return torch.matmul(a, b.T if b.ndim == 2 else b) / a.shape[-1]


def hamming(a: Tensor, b: Tensor) -> Tensor:
    """Number of neurons whose signs differ, over the last dimension; int64, broadcast over the others.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> patterns.hamming(torch.tensor([1.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, -1.0]))
        tensor(2)
    """
    return (to_bits(a) != to_bits(b)).sum(-1)


def flip(patterns: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """A copy of patterns with exactly `round(fraction * d)` neurons of each flipped, chosen at random.

    Args:
        patterns: `(k, d)`, float32 of -1 and +1.
        fraction: Part of the neurons, in [0, 1].
        generator: Chooses the neurons.

    Returns:
        `(k, d)`, on the device of `patterns`.

    Raises:
        DimensionError: Another number of dimensions.
        PatternError: A fraction outside [0, 1].

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.random_patterns(2, 10, generator)
        >>> patterns.hamming(patterns.flip(stored, 0.3, generator), stored)
        tensor([3, 3])
    """
    if patterns.ndim != 2:
        raise DimensionError(f"flip: expected patterns of shape (k, d), found {tuple(patterns.shape)}")
    if not 0 <= fraction <= 1:
        raise PatternError(f"flip: expected a fraction in [0, 1], found {fraction}")
    count = round(fraction * patterns.shape[1])
    order = torch.rand(patterns.shape, generator=generator, dtype=torch.float32).argsort(dim=1)
    signs = torch.ones(patterns.shape, dtype=torch.float32)
    signs.scatter_(1, order[:, :count], -1.0)
    return patterns * signs.to(patterns.device)


def random_patterns(count: int, dim: int, generator: torch.Generator, *, mean: float = 0.0) -> Tensor:
    """Independent random patterns of -1 and +1.

    Args:
        count: Number of patterns k.
        dim: Number of neurons d.
        generator: Where the randomness comes from.
        mean: Expected activity, in [-1, 1].

    Returns:
        `(count, dim)`, float32.

    Raises:
        PatternError: A mean outside [-1, 1].

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> sparse = patterns.random_patterns(100, 1000, torch.Generator().manual_seed(0), mean=-0.8)
        >>> round(patterns.activity(sparse), 1)
        -0.8
    """
    if not -1 <= mean <= 1:
        raise PatternError(f"random patterns: expected a mean in [-1, 1], found {mean}")
    return (torch.rand((count, dim), generator=generator, dtype=torch.float32) < (1 + mean) / 2).to(
        torch.float32
    ) * 2 - 1


def sparse_patterns(count: int, dim: int, ones: int, generator: torch.Generator) -> Tensor:
    """Independent random patterns with exactly so many ones.

    Args:
        count: Number of patterns k.
        dim: Number of neurons d.
        ones: Neurons that are on in each, from 0 to d.
        generator: Where the randomness comes from.

    Returns:
        `(count, dim)`, float32 of -1 and +1.

    Raises:
        PatternError: More ones than neurons, or fewer than none.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> patterns.to_bits(patterns.sparse_patterns(3, 100, 5, torch.Generator().manual_seed(0))).sum(1)
        tensor([5, 5, 5])
    """
    if not 0 <= ones <= dim:
        raise PatternError(f"sparse patterns: expected from 0 to {dim} ones, found {ones}")
    draw = torch.rand((count, dim), generator=generator, dtype=torch.float32)
    return torch.full_like(draw, -1.0).scatter_(1, draw.topk(ones, dim=1).indices, 1.0)


def move_ones(patterns: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """A copy of patterns with so many ones of each moved to neurons that were off, chosen at random.

    Args:
        patterns: `(k, d)`, float32 of -1 and +1.
        count: How many ones are moved.
        generator: Chooses the neurons.

    Returns:
        `(k, d)`, with as many ones as before, on the device of `patterns`.

    Raises:
        DimensionError: Another number of dimensions.
        PatternError: A pattern with fewer ones, or fewer zeros, than are to be moved.

    Examples:
        >>> import torch
        >>> from hopfield import patterns
        >>> generator = torch.Generator().manual_seed(0)
        >>> stored = patterns.sparse_patterns(2, 100, 5, generator)
        >>> patterns.hamming(patterns.move_ones(stored, 1, generator), stored)  # one is lost, one is new
        tensor([2, 2])
    """
    if patterns.ndim != 2:
        raise DimensionError(f"move_ones: expected patterns of shape (k, d), found {tuple(patterns.shape)}")
    on = to_bits(patterns).cpu()
    room = int(torch.minimum(on.sum(1), (~on).sum(1)).min()) if len(on) else count
    if not 0 <= count <= room:
        raise PatternError(f"move_ones: expected from 0 to {room} ones to move, found {count}")
    draw = torch.rand(on.shape, generator=generator, dtype=torch.float32)
    changed = torch.cat([(draw - 2.0 * ~on).topk(count, 1).indices, (draw - 2.0 * on).topk(count, 1).indices], 1)
    on.scatter_(1, changed, ~on.gather(1, changed))
    return (on.to(torch.float32) * 2 - 1).to(patterns.device)


def _tensor(values: Any, what: str) -> Tensor:
    """A dense real tensor of what was given; PatternError for what is not numbers."""
    if isinstance(values, Tensor):
        tensor = values.detach()
        if tensor.device.type == "meta":
            raise PatternError(f"{what}: expected a tensor of numbers, found one that holds none (device meta)")
        if tensor.is_complex() or tensor.layout != torch.strided:
            raise PatternError(f"{what}: expected dense real numbers, found {tensor.dtype}, {tensor.layout}")
        return tensor
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PatternError(f"{what}: expected a tensor or array of numbers, found {type(values).__name__}") from error
    if array.dtype.kind not in "biuf":
        found = f"an array of {array.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise PatternError(f"{what}: expected a tensor or array of numbers, found {found}")
    native = array.dtype.newbyteorder("=")
    # torch computes little or nothing with these
    if (native.kind == "u" and native.itemsize > 1) or native.itemsize > 8:
        native = np.dtype(np.float64)
    # torch takes neither negative strides nor, without a warning, what must not be written to
    return torch.from_numpy(np.require(array, dtype=native, requirements=["C", "W"]))
