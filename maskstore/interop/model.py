"""What an import is made of: the masks of a foreign file, what was said about it, and the layouts of plain arrays."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs import Codec
from maskstore.errors import (
    ArgumentTypeError,
    ForeignFileError,
    ImportOptionError,
    MaskStoreError,
    MaskValueError,
    SpecError,
    one_line,
)
from maskstore.files import TABLE_BYTES, byte_limit, check_known, distinct_names, is_name, read_regular
from maskstore.masks import SCALES, Mask, MaskSpec, SignedMask
from maskstore.priors import Prior

LAYOUTS = (
    "auto",
    "prune",
    "supsup",
    "hidden-networks",
    "piggyback",
    "packnet",
    "wsn",
    "nni",
    "compressed-tensors",
    "tall-masks",
    "arrays",
    "maskstore",
)
Arrays = Mapping[str, NDArray[Any]]
BitOrder = Literal["big", "little"]
T = TypeVar("T")


_FIELDS: tuple[tuple[str, type, str], ...] = (
    ("shapes", Mapping, "a dict of layer name -> shape"),
    ("separator", str, "text, or None"),
    ("name", str, "text, or None"),
    ("conv_type", str, "text, or None"),
    ("density", Real, "a number, or None"),
    ("nonzero", bool, "True or False"),
    ("layers", Collection, "a sequence of patterns, or None"),
)
"""The types of the options that are no choice among names."""


@dataclass(frozen=True)
class ForeignTask:
    """One mask, with what the file says about it."""

    name: str
    mask: Mask
    meta: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)
    codec: Codec | None = None
    prior: Prior | None = None
    signed: SignedMask | None = None
    """The same mask with the signs and scales of its weights, if the file was ternarised."""


@dataclass(frozen=True)
class ForeignMasks:
    """All masks of a foreign file, of one spec."""

    layout: str
    spec: MaskSpec
    tasks: tuple[ForeignTask, ...]
    meta: dict[str, Any]
    """What the file says about all of them, for the metadata of a bank."""


@dataclass(frozen=True)
class ReadOptions:
    """What a caller says about a foreign file. `layout` is one of `LAYOUTS`."""

    layout: str = "auto"
    shapes: Mapping[str, Sequence[int]] | None = None
    """Layer name -> shape, for packed bytes, which carry none; its order is the order of the layers."""
    bit_order: BitOrder = "big"
    """Of packed bytes: "big" is what `numpy.packbits` writes unless told otherwise."""
    vector_order: Literal["sorted", "given"] = "sorted"
    """How layers follow one another in a TALL-masks vector: sorted by name, or as in `shapes`."""
    separator: str | None = None
    """Splits array names into task and layer at its first place; without it the file is one task."""
    name: str | None = None
    """Name of the task; "{}" in it stands for the task's own name, or for the file's stem if the file names none."""
    conv_type: str | None = None
    """The mask rule of a reference SupSup state dict that was saved without its arguments."""
    density: float | None = None
    """The fraction of each layer that hidden-networks scores keep, as such files do not say it; or that `ternarise`
    keeps."""
    nonzero: bool = False
    """The arrays are weights, of which those that are not zero were kept: what `torch.nn.utils.prune.remove` leaves."""
    ternarise: str | None = None
    """The arrays are changes of weights, kept as signs and a scale for each "layer" or "row", or without ("none"). With
    `density` only the largest of each layer."""
    layers: Sequence[str] | None = None
    """Patterns such as `"*.weight"`: only layers whose names match one are read."""
    limit: int | None = None
    """The most bytes that the file's arrays may take, where the default, `maskstore.files.claims`, is too low."""

    def __post_init__(self) -> None:
        check_known("layout", self.layout, LAYOUTS, ImportOptionError)
        check_known("bit order", self.bit_order, ("big", "little"), ImportOptionError)
        check_known("vector order", self.vector_order, ("sorted", "given"), ImportOptionError)
        object.__setattr__(self, "limit", byte_limit(self.limit))
        for name, kind, expected in _FIELDS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ArgumentTypeError(f"{name}: expected {expected}, found {type(value).__name__} {value!r:.40}")
        if self.shapes is not None:
            try:
                MaskSpec(self.shapes)
            except SpecError as error:
                raise ImportOptionError(f"shapes: {error}") from None
        if self.ternarise is not None:
            check_known("ternarise", self.ternarise, SCALES, ImportOptionError)
            if self.nonzero or self.layout not in ("auto", "arrays"):
                other = "`nonzero`" if self.nonzero else f"layout {self.layout}"
                raise ImportOptionError(f"ternarise: expected it alone, or with layout arrays, found {other} beside it")
        if self.density is not None and (isinstance(self.density, bool) or not 0 <= self.density <= 1):
            raise ImportOptionError(f"density: expected a fraction in [0, 1], found {self.density!r:.40}")
        if self.name is not None and not is_name(self.name):
            raise ImportOptionError(f"name: expected 1 to 512 characters, found {self.name!r:.60}")
        if isinstance(self.layers, str):
            raise ImportOptionError(f"layers: expected a sequence of patterns, found one string {self.layers!r:.60}")
        if self.layers is not None and not all(isinstance(pattern, str) for pattern in self.layers):
            raise ArgumentTypeError(f"layers: expected patterns of names, found {self.layers!r:.60}")

    def spec(self, what: str) -> MaskSpec:
        """The spec that `shapes` declares; ImportOptionError if none were given."""
        if self.shapes is None:
            raise ImportOptionError(f"{what}: expected `shapes`, which packed bytes need, found none given")
        return MaskSpec(self.shapes)

    def chosen(self, layers: Mapping[str, T], what: str) -> dict[str, T]:
        """Those layers whose names match `layers`; ImportOptionError for a pattern that matches none."""
        if self.layers is None:
            return dict(layers)
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in layers):
                listed = ", ".join(list(layers)[:4])
                raise ImportOptionError(f"{what}: expected a layer for each of `layers`, found none that matches "
                                        f"{pattern!r:.60} among {listed:.120}")  # fmt: skip
        return {
            name: value for name, value in layers.items() if any(fnmatchcase(name, pattern) for pattern in self.layers)
        }

    def task_names(self, own: Sequence[str], default: str) -> list[str]:
        """Final task names; `default` is the only task's if the file does not name it (`own` is `[""]`)."""
        if list(own) == [""]:
            own = [default]
        if self.name is None:
            return list(own)
        if "{}" not in self.name and len(own) > 1:
            raise ImportOptionError(f"name: expected '{{}}' in it for {len(own)} tasks, found {self.name!r:.80}")
        return [self.name.replace("{}", name) for name in own]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes from a JSON object `{"fc1": [300, 784], ...}`; ImportOptionError for another file."""
    try:
        value = json.loads(
            read_regular(path, limit=TABLE_BYTES, what="JSON").decode(), object_pairs_hook=distinct_names
        )
        shapes = {str(name): tuple(shape) for name, shape in value.items()}
        MaskSpec(shapes)
    except (MaskStoreError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImportOptionError(f"{path}: expected a JSON object of layer shapes, found: {one_line(error)}") from None
    return shapes


def unpack(data: NDArray[Any], shape: tuple[int, ...], bit_order: BitOrder, what: str) -> NDArray[np.bool_]:
    """Bools of `shape` from uint8: all bits in one run, `(ceil(size / 8),)`, or each row packed by itself.

    ForeignFileError for other lengths, and for set bits where padding has to be zero.
    """
    size, rows = prod(shape), prod(shape[:-1])
    by_rows = len(shape) > 1 and data.shape == (*shape[:-1], (shape[-1] + 7) // 8)
    if data.dtype != np.uint8 or not (by_rows or data.shape == ((size + 7) // 8,)):
        raise ForeignFileError(
            f"{what}: expected {(size + 7) // 8} packed bytes for {size} bits, found {data.dtype} of shape {data.shape}"
        )
    runs, length = (rows, shape[-1]) if by_rows else (1, size)
    values = np.unpackbits(data.reshape(runs, (length + 7) // 8), axis=1, bitorder=bit_order)
    if values[:, length:].any():
        raise ForeignFileError(
            f"{what}: expected zero padding after bit {length}, found set bits (is the bit order really {bit_order}?)"
        )
    return values[:, :length].reshape(shape).view(np.bool_)


def mask_of(arrays: Arrays, spec: MaskSpec | None, what: str, bit_order: BitOrder = "big") -> Mask:
    """A mask of 0/1 arrays; arrays that do not have their layer's shape are taken as its packed bytes."""
    if spec is not None and set(spec.shapes) == set(arrays):
        arrays = {
            layer.name: arrays[layer.name]
            if arrays[layer.name].shape == layer.shape
            else unpack(arrays[layer.name], layer.shape, bit_order, f"{what}, layer {layer.name!r}")
            for layer in spec
        }
    if spec is None and arrays and all(array.dtype == np.uint8 and array.ndim == 1 for array in arrays.values()):
        name = next(iter(arrays))
        raise ForeignFileError(f"{what}, layer {name!r:.80}: expected values 0 and 1 of a known shape, found bytes in "
                               "one run, which may be packed bits (packed bytes need `shapes`)")  # fmt: skip
    for name, array in arrays.items():
        if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:  # files can hold any byte there
            raise ForeignFileError(f"{what}, layer {name!r}: expected bools, found byte {array.view(np.uint8).max()}")
    try:
        return Mask.from_dense(arrays, spec)
    except (MaskValueError, SpecError, LookupError) as error:
        hint = " (`layers` picks some of them)" if isinstance(error, MaskValueError) and len(arrays) > 1 else ""
        if spec is None and any(array.dtype == np.uint8 for array in arrays.values()):
            hint = " (packed bytes need `shapes`)"
        raise ForeignFileError(f"{what}: {error}{hint}") from None


def assemble(
    layout: str, masks: Iterable[tuple[str, Mask]], options: ReadOptions, default: str, meta: dict[str, Any]
) -> ForeignMasks:
    """Name the masks of a file and see that they share one spec."""
    pairs = list(masks)
    if not pairs:
        raise ForeignFileError(f"{default}: expected masks, found none")
    spec = pairs[0][1].spec
    for name, mask in pairs:
        if mask.spec != spec:
            raise ForeignFileError(f"task {name!r}: expected the layers of task {pairs[0][0]!r}, found {mask.spec!r}")
    names = options.task_names([name for name, _ in pairs], default)
    tasks = tuple(ForeignTask(name, mask) for name, (_, mask) in zip(names, pairs, strict=True))
    return ForeignMasks(layout, spec, tasks, meta)
