"""What differs between two banks, or between two masks."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from maskstore.bank import MaskSource, Record, check_source, decode_extras, decode_mask
from maskstore.files import parse_object, same_json
from maskstore.masks import bits


@dataclass(frozen=True)
class LayerDiff:
    """Hamming distance in one layer."""

    name: str
    bits: int
    distance: int


@dataclass(frozen=True)
class TaskDiff:
    """Two masks compared, and what is stored beside them."""

    a: str
    b: str
    layers: tuple[LayerDiff, ...]
    """Layers that both have, with the same shape."""
    meta_same: bool
    extras_same: bool

    @property
    def bits(self) -> int:
        """Bits compared."""
        return sum(layer.bits for layer in self.layers)

    @property
    def distance(self) -> int:
        """Bits that differ."""
        return sum(layer.distance for layer in self.layers)


@dataclass(frozen=True)
class BankDiff:
    """Two banks compared: tasks by name, layers by name and shape."""

    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    layers_only_in_a: tuple[str, ...]
    layers_only_in_b: tuple[str, ...]
    tasks: tuple[TaskDiff, ...]
    beside: bool
    """Whether what is stored beside the masks counts."""
    meta_same: bool
    """Whether the metadata of the banks themselves is the same."""

    @property
    def same(self) -> bool:
        """Whether nothing differs: names, layers, bits and, if it counts, what is stored beside them."""
        names = self.only_in_a or self.only_in_b or self.layers_only_in_a or self.layers_only_in_b
        return (
            (self.meta_same or not self.beside)
            and not names
            and all(
                task.distance == 0 and (not self.beside or (task.meta_same and task.extras_same)) for task in self.tasks
            )
        )


def diff_banks(a: MaskSource, b: MaskSource) -> BankDiff:
    """Compare two banks or shards: the masks of every task that both name, and what is stored beside them.

    Args:
        a: An open bank or shard.
        b: Another. Layers are compared that both have with the same shape.

    Returns:
        What only one of them has, and the Hamming distance of each layer of each task that both have.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import diff_banks
        >>> spec = MaskSpec({"fc1": (4, 4)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/a.bank", spec) as a, MaskBank.create(f"{folder}/b.bank", spec) as b:
        ...         a.put("task-0", {"fc1": np.eye(4, dtype=bool)})
        ...         b.put("task-0", {"fc1": np.ones((4, 4), dtype=bool)})
        ...         found = diff_banks(a, b)
        >>> found.same, [(task.a, task.distance) for task in found.tasks]
        (False, [('task-0', 12)])
    """
    for source in (a, b):
        check_source(source)
    names_a, names_b = dict.fromkeys(a), dict.fromkeys(b)
    found = _diff(a, b, [(name, name) for name in names_a if name in names_b], beside=True)
    only_in_a = tuple(name for name in names_a if name not in names_b)
    return replace(found, only_in_a=only_in_a, only_in_b=tuple(name for name in names_b if name not in names_a))


def diff_tasks(a: MaskSource, b: MaskSource, name_a: str, name_b: str) -> BankDiff:
    """Compare one mask with another; only their bits count.

    Args:
        a: An open bank or shard.
        b: Another, or the same.
        name_a: A task of `a`.
        name_b: A task of `b`.

    Raises:
        TaskNotFoundError: There is no such task.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskBank, MaskSpec
        >>> from maskstore.interop import diff_tasks
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MaskBank.create(f"{folder}/a.bank", MaskSpec({"fc1": (4, 4)})) as bank:
        ...         bank.put("task-0", {"fc1": np.eye(4, dtype=bool)})
        ...         bank.put("task-1", {"fc1": np.ones((4, 4), dtype=bool)})
        ...         found = diff_tasks(bank, bank, "task-0", "task-1")
        >>> found.tasks[0].distance, found.tasks[0].bits
        (12, 16)
    """
    for source in (a, b):
        check_source(source)
    return _diff(a, b, [(name_a, name_b)], beside=False)


def _diff(a: MaskSource, b: MaskSource, pairs: Sequence[tuple[str, str]], *, beside: bool) -> BankDiff:
    common = {layer.name for layer in a.spec if b.spec.shapes.get(layer.name) == layer.shape}
    layers_only_in_a, layers_only_in_b = (
        tuple(layer.name for layer in source.spec if layer.name not in common) for source in (a, b)
    )
    tasks = tuple(_task(a, b, name_a, name_b, common) for name_a, name_b in pairs)
    return BankDiff((), (), layers_only_in_a, layers_only_in_b, tasks, beside, same_json(a.meta, b.meta))


def _task(a: MaskSource, b: MaskSource, name_a: str, name_b: str, common: Container[str]) -> TaskDiff:
    row_a, row_b = a.record(name_a), b.record(name_b)
    mask_a, mask_b = decode_mask(row_a, a.spec), decode_mask(row_b, b.spec)
    layers = []
    for layer in (layer for layer in a.spec if layer.name in common):
        words_b = mask_b.words[b.spec[layer.name].packed]
        layers.append(LayerDiff(layer.name, layer.size, bits.hamming(mask_a.words[layer.packed], words_b)))
    meta_same = same_json(parse_object(row_a.meta), parse_object(row_b.meta))
    return TaskDiff(name_a, name_b, tuple(layers), meta_same, extras_same=_same_extras(row_a, row_b))


def _same_extras(a: Record, b: Record) -> bool:
    """Whether two rows have the same arrays by name; the order in which they were put is no difference."""
    if a.extras == b.extras:
        return True
    found_a, found_b = (decode_extras(row.extras, row.name) for row in (a, b))
    return found_a.keys() == found_b.keys() and all(
        (one.dtype, one.shape, one.tobytes()) == (found_b[name].dtype, found_b[name].shape, found_b[name].tobytes())
        for name, one in found_a.items()
    )
