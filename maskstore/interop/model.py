"""What an import is made of: the masks of a foreign file, what was said about it, and the layouts of plain arrays."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs import Codec
from maskstore.errors import ForeignFileError, ImportOptionError, MaskValueError, SpecError, one_line
from maskstore.files import check_known
from maskstore.masks import Mask, MaskSpec
from maskstore.priors import Prior

LAYOUTS = ("auto", "prune", "supsup", "piggyback", "tall-masks", "arrays", "maskstore")
Arrays = Mapping[str, NDArray[Any]]
BitOrder = Literal["big", "little"]


@dataclass(frozen=True)
class ForeignTask:
    """One mask, with what the file says about it."""

    name: str
    mask: Mask
    meta: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)
    codec: Codec | None = None
    prior: Prior | None = None


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
    """Name of the task; where there are several, "{}" in it stands for each one's own name."""
    conv_type: str | None = None
    """The mask rule of a reference SupSup state dict that was saved without its arguments."""

    def __post_init__(self) -> None:
        check_known("layout", self.layout, LAYOUTS, ImportOptionError)
        check_known("bit order", self.bit_order, ("big", "little"), ImportOptionError)
        check_known("vector order", self.vector_order, ("sorted", "given"), ImportOptionError)

    def spec(self, what: str) -> MaskSpec:
        """The spec that `shapes` declares; ImportOptionError if none were given."""
        if self.shapes is None:
            raise ImportOptionError(f"{what}: expected `shapes`, which packed bytes need, found none given")
        return MaskSpec(self.shapes)

    def task_names(self, own: Sequence[str], default: str) -> list[str]:
        """Final task names; `default` is the only task's if the file does not name it (`own` is `[""]`)."""
        if list(own) == [""]:
            return [self.name or default]
        if self.name is None:
            return list(own)
        if "{}" not in self.name and len(own) > 1:
            raise ImportOptionError(f"name: expected '{{}}' in it for {len(own)} tasks, found {self.name!r:.80}")
        return [self.name.replace("{}", name) for name in own]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes from a JSON object `{"fc1": [300, 784], ...}`; ImportOptionError for another file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_distinct)
        shapes = {str(name): tuple(shape) for name, shape in value.items()}
        MaskSpec(shapes)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, SpecError) as error:
        raise ImportOptionError(f"{path}: expected a JSON object of layer shapes, found: {one_line(error)}") from None
    return shapes


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("one layer named twice")
    return dict(pairs)


def unpack(data: NDArray[Any], size: int, bit_order: BitOrder, what: str) -> NDArray[np.bool_]:
    """`size` bools from ceil(size / 8) packed bytes `(n,)` uint8; ForeignFileError unless padding bits are zero."""
    if data.dtype != np.uint8 or data.shape != ((size + 7) // 8,):
        raise ForeignFileError(
            f"{what}: expected {(size + 7) // 8} packed bytes for {size} bits, found {data.dtype} of shape {data.shape}"
        )
    values = np.unpackbits(data, bitorder=bit_order)
    if values[size:].any():
        raise ForeignFileError(
            f"{what}: expected zero padding after bit {size}, found set bits (is the bit order really {bit_order}?)"
        )
    return values[:size].view(np.bool_)


def mask_of(arrays: Arrays, spec: MaskSpec | None, what: str, bit_order: BitOrder = "big") -> Mask:
    """A mask of 0/1 arrays; arrays that do not have their layer's shape are taken as its packed bytes."""
    if spec is not None and set(spec.shapes) == set(arrays):
        arrays = {
            layer.name: arrays[layer.name]
            if arrays[layer.name].shape == layer.shape
            else unpack(arrays[layer.name], layer.size, bit_order, f"{what}, layer {layer.name!r}").reshape(layer.shape)
            for layer in spec
        }
    for name, array in arrays.items():
        if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:  # files can hold any byte there
            raise ForeignFileError(f"{what}, layer {name!r}: expected bools, found byte {array.view(np.uint8).max()}")
    try:
        return Mask.from_dense(arrays, spec)
    except (MaskValueError, SpecError, LookupError) as error:
        hint = ""
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
