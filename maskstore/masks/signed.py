"""`SignedMask`: -1, 0 or +1 for each weight, and a scale for each layer or row; immutable, one bit each in memory."""

from collections.abc import Iterator, Mapping
from math import ceil
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import MaskValueError, SpecError
from maskstore.masks import bits
from maskstore.masks.mask import Mask
from maskstore.masks.spec import LayerSpec, MaskSpec

SCALES = ("layer", "row", "none")
"""What `SignedMask.from_deltas` measures a scale for."""


class SignedMask:
    """A value of -1, 0 or +1 for each weight, and perhaps a scale for each layer or row; immutable.

    Ternary task vectors, signed supermasks and sparse deltas are of this kind. Mostly made by `from_dense`, of values,
    or by `from_deltas`, of numbers.

    Args:
        mask: The weights whose value is not 0.
        negative: Those whose value is -1; all of them are in `mask`.
        scales: Layer name to a number, or to a number for each row, `(rows,)`; for every layer, and for all of one
            kind. A layer of two or more dimensions has as many rows as its first one says, any other layer has one.

    Raises:
        SpecError: The two masks are of two specs, or the scales are not those of its layers.
        MaskValueError: A weight is negative and not in the mask, or a scale is not finite in float32.

    Examples:
        >>> import numpy as np
        >>> from maskstore import SignedMask
        >>> signed = SignedMask.from_dense({"fc1": [[0, 1, -1], [0, 0, 1]]}, scales={"fc1": [0.5, 2.0]})
        >>> signed
        SignedMask(1 layers, 6 weights, density 0.500, 1 of 3 negative, a scale for each row)
        >>> signed.dense()["fc1"].dtype, signed.deltas()["fc1"]
        (dtype('int8'), array([[ 0. ,  0.5, -0.5],
               [ 0. ,  0. ,  2. ]], dtype=float32))
        >>> signed.mask
        Mask(1 layers, 6 bits, density 0.500)
    """

    __slots__ = ("mask", "negative", "scales")

    mask: Mask
    """The weights whose value is not 0."""
    negative: Mask
    """The weights whose value is -1."""
    scales: dict[str, NDArray[np.float32]]
    """Layer name to float32 of shape `()` or `(rows,)`, read-only; empty without scales."""

    def __init__(self, mask: Mask, negative: Mask, scales: Mapping[str, Any] | None = None) -> None:
        for part in (mask, negative):
            if not isinstance(part, Mask):
                raise SpecError(f"signed mask: expected two masks, found {type(part).__name__} (from_dense and "
                                "from_deltas take arrays)")  # fmt: skip
        if (negative & mask) != negative:
            raise MaskValueError("signed mask: expected every negative weight in the mask, found one outside")
        self.mask, self.negative = mask, negative
        self.scales = _checked_scales(scales, mask.spec) if scales else {}

    @classmethod
    def from_dense(
        cls, values: Mapping[str, Any], spec: MaskSpec | None = None, *, scales: Mapping[str, Any] | None = None
    ) -> Self:
        """Pack arrays of -1, 0 and +1 by layer name.

        Args:
            values: Layer name to array, of any type of numbers.
            spec: Whose names and shapes the arrays must have. Without one, the dict's own are the spec.
            scales: As in the class.

        Raises:
            SpecError: For wrong names or shapes.
            MaskValueError: For other values.
        """
        arrays = dict(_arrays(values))
        for name, array in arrays.items():
            wrong = ~((array == 0) | (array == 1) | (array == -1))
            if wrong.any():
                raise MaskValueError(f"layer {name!r}: expected values -1, 0 and 1, found {array[wrong].flat[0]}")
        mask = Mask.from_dense({name: array != 0 for name, array in arrays.items()}, spec)
        return cls(mask, Mask.from_dense({name: array < 0 for name, array in arrays.items()}, mask.spec), scales)

    @classmethod
    def from_deltas(
        cls,
        deltas: Mapping[str, Any],
        spec: MaskSpec | None = None,
        *,
        density: float | None = None,
        scale: str = "layer",
    ) -> Self:
        """Ternarise numbers: their signs, and the mean magnitude of those kept, which is the nearest scale.

        Args:
            deltas: Layer name to array of numbers, such as the difference of two checkpoints. They are looked at one
                after the other, so a mapping that reads a layer when it is asked for one needs little memory.
            spec: As in `from_dense`.
            density: The fraction of each layer to keep, rounded up to whole weights: the largest magnitudes, equal ones
                in C order. Without it, all that are not 0.
            scale: "layer", "row" or "none": what a scale is measured for.

        Raises:
            SpecError: For wrong names or shapes, a density outside [0, 1], and another kind of scale.
            MaskValueError: For what is not a finite number.

        Source: Yadav et al., "ComPEFT", arXiv 2311.13171, with the mean magnitude for its tuned scale.
        """
        if scale not in SCALES:
            raise SpecError(f"scale: expected one of {', '.join(SCALES)}, found {scale!r:.40}")
        if density is not None and not (_is_number(density) and 0 <= density <= 1):
            raise SpecError(f"density: expected a fraction in [0, 1], found {density!r:.40}")
        if spec is not None and not isinstance(spec, MaskSpec):
            raise SpecError(f"signed mask: expected a spec such as MaskSpec.of(masks), found {type(spec).__name__}")
        kept: dict[str, NDArray[np.uint64]] = {}
        negative: dict[str, NDArray[np.uint64]] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        scales: dict[str, NDArray[np.float64]] = {}
        for name, array in _arrays(deltas):
            sizes = np.abs(array.astype(np.float64))
            if not np.isfinite(sizes).all():
                raise MaskValueError(f"layer {name!r}: expected finite numbers, found others among them")
            chosen = sizes != 0 if density is None else _largest(sizes, _share(density, array.size))
            shapes[name], kept[name], negative[name] = array.shape, bits.pack(chosen), bits.pack(chosen & (array < 0))
            rows = (array.shape[0] if array.ndim > 1 else 1) if scale == "row" else 1
            shape = rows, array.size // max(rows, 1)
            total = np.where(chosen, sizes, 0).reshape(shape).sum(axis=1)
            mean = total / np.maximum(chosen.reshape(shape).sum(axis=1), 1)
            scales[name] = mean if scale == "row" else mean[0]
        found = MaskSpec(shapes)
        if spec is not None and dict(found.shapes) != dict(spec.shapes):
            raise SpecError(f"signed mask: expected the layers of {spec!r}, found {found!r}")
        found = spec or found
        mask, minus = (
            Mask(found, np.concatenate([words[layer.name] for layer in found])) for words in (kept, negative)
        )
        return cls(mask, minus, None if scale == "none" else scales)

    @property
    def spec(self) -> MaskSpec:
        """The layers."""
        return self.mask.spec

    @property
    def nbytes(self) -> int:
        """Bytes of the packed words in memory."""
        return self.mask.nbytes + self.negative.nbytes

    def layer(self, name: str) -> NDArray[np.int8]:
        """One layer as int8 of -1, 0 and +1, of its shape."""
        return self.mask.layer(name).view(np.int8) - 2 * self.negative.layer(name).view(np.int8)

    def dense(self) -> dict[str, NDArray[np.int8]]:
        """All layers as int8 of -1, 0 and +1, of their shapes, in spec order."""
        return {layer.name: self.layer(layer.name) for layer in self.spec}

    def delta(self, name: str) -> NDArray[np.float32]:
        """One layer times its scale, float32 of its shape; times 1 without scales."""
        values = self.layer(name).astype(np.float32)
        if not self.scales:
            return values
        scale = self.scales[name]
        by_row = scale.ndim and values.ndim > 1
        return np.asarray(values * scale.reshape((-1,) + (1,) * (values.ndim - 1) if by_row else ()))

    def deltas(self) -> dict[str, NDArray[np.float32]]:
        """`delta` of all layers, in spec order."""
        return {layer.name: self.delta(layer.name) for layer in self.spec}

    def relative_to(self, signs: Mask) -> "SignedMask":
        """Values times the signs of frozen weights: +1 where a value has the sign of its weight. Twice is the identity.

        Where values lean on the signs of weights that a reader has as well, their signs cost fewer bits so.

        Args:
            signs: Where the weights are negative.
        """
        if not isinstance(signs, Mask):
            raise SpecError(f"signs: expected a Mask of the negative weights, found {type(signs).__name__}")
        return SignedMask(self.mask, self.negative ^ (signs & self.mask), self.scales)

    def __getitem__(self, name: str) -> NDArray[np.int8]:
        """One layer as int8, as `layer` gives it."""
        return self.layer(name)

    def __iter__(self) -> Iterator[str]:
        """Names of the layers, in spec order."""
        return iter(self.spec.shapes)

    def __reduce__(self) -> tuple[Any, ...]:
        return SignedMask, (self.mask, self.negative, self.scales)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SignedMask):
            return NotImplemented
        same = self.mask == other.mask and self.negative == other.negative and self.scales.keys() == other.scales.keys()
        return same and all(np.array_equal(value, other.scales[name]) for name, value in self.scales.items())

    def __hash__(self) -> int:
        return hash((self.mask, self.negative))

    def __repr__(self) -> str:
        kind = "row" if any(scale.ndim for scale in self.scales.values()) else "layer"
        scaled = f", a scale for each {kind}" if self.scales else ""
        return (f"SignedMask({len(self.spec)} layers, {self.spec.bits} weights, density {self.mask.density:.3f}, "
                f"{self.negative.ones} of {self.mask.ones} negative{scaled})")  # fmt: skip


def rows_of(layer: LayerSpec) -> int:
    """How many scales a layer has if each row has one."""
    return layer.shape[0] if len(layer.shape) > 1 else 1


def kept_bits(words: NDArray[np.uint64], kept: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The bits of `words` where `kept` is set, in order, as packed words `(ceil(popcount(kept) / 64),)`."""
    from maskstore.masks import subset_loops as loops

    out = np.zeros((bits.popcount(kept) + 63) // 64, dtype=np.uint64)
    loops.take(words, kept, loops.COUNTS, loops.TAKEN, out)
    return out


def spread_bits(values: NDArray[np.uint64], kept: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The packed words, as many as in `kept`, whose `kept_bits` are `values`, and that are 0 elsewhere."""
    from maskstore.masks import subset_loops as loops

    out = np.empty(kept.size, dtype=np.uint64)
    loops.put(values, kept, loops.COUNTS, loops.SPREAD, out)
    return out


def _arrays(values: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The layers as numpy arrays, one after the other."""
    if not hasattr(values, "items"):
        raise SpecError(f"signed mask: expected a dict of layer name to array, found {type(values).__name__}")
    for name, value in values.items():
        array = bits.as_numpy(value, f"layer {name!r:.80}")
        if array.dtype.kind not in "biuf":
            raise MaskValueError(f"layer {name!r:.80}: expected real numbers, found dtype {array.dtype}")
        yield name, array


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _share(density: float, size: int) -> int:
    """A fraction of `size` weights, rounded up: 7 of 100 for 0.07, whose product is a little more than 7 in floats."""
    return ceil(round(float(density) * size, 6))


def _largest(sizes: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """The `count` largest, equal ones in C order; never a 0."""
    flat = sizes.reshape(-1)
    if not 0 < count < flat.size:
        return np.asarray((sizes != 0) & (count > 0))
    least = np.partition(flat, flat.size - count)[flat.size - count]
    kept = flat > least
    kept[np.flatnonzero(flat == least)[: count - int(kept.sum())]] = True
    return np.asarray(kept & (flat != 0)).reshape(sizes.shape)


def _checked_scales(scales: Mapping[str, Any], spec: MaskSpec) -> dict[str, NDArray[np.float32]]:
    if not hasattr(scales, "items"):
        raise SpecError(f"scales: expected a dict of layer name to numbers, found {type(scales).__name__}")
    for name in scales:
        spec.index(name)
    if missing := [name for name in spec.shapes if name not in scales]:
        raise SpecError(f"scales: expected those of layers {list(spec.shapes)[:8]}, found none of {missing[:8]}")
    found = {}
    for layer in spec:
        array = bits.as_numpy(scales[layer.name], f"scales of layer {layer.name!r:.80}")
        if array.dtype.kind not in "iuf" or array.shape not in ((), (rows_of(layer),)):
            raise SpecError(f"scales of layer {layer.name!r:.80}: expected a number, or {rows_of(layer)} for its rows, "
                            f"found {array.dtype} of shape {array.shape}")  # fmt: skip
        with np.errstate(over="ignore"):
            found[layer.name] = array.astype(np.float32)
        if not np.isfinite(found[layer.name]).all():
            raise MaskValueError(f"scales of layer {layer.name!r:.80}: expected finite numbers, found others")
        found[layer.name].flags.writeable = False
    if len({array.ndim for array in found.values()}) > 1:
        raise SpecError("scales: expected one for each layer or one for each row, found both kinds")
    return found
