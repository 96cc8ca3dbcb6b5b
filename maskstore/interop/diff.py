"""What differs between two banks, or between two masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskstore.bank import MaskSource
from maskstore.masks import Mask, MaskSpec, bits


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

    @property
    def same(self) -> bool:
        """Whether nothing differs: names, layers, bits and, if it counts, what is stored beside them."""
        names = self.only_in_a or self.only_in_b or self.layers_only_in_a or self.layers_only_in_b
        return not names and all(
            task.distance == 0 and (not self.beside or (task.meta_same and task.extras_same)) for task in self.tasks
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
    in_a, in_b = dict.fromkeys(a), dict.fromkeys(b)
    pairs = [(name, name) for name in in_a if name in in_b]
    return _diff(a, b, pairs, [n for n in in_a if n not in in_b], [n for n in in_b if n not in in_a], beside=True)


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
    return _diff(a, b, [(name_a, name_b)], [], [], beside=False)


def _diff(
    a: MaskSource,
    b: MaskSource,
    pairs: Sequence[tuple[str, str]],
    only_in_a: Sequence[str],
    only_in_b: Sequence[str],
    *,
    beside: bool,
) -> BankDiff:
    common = [layer.name for layer in a.spec if b.spec.shapes.get(layer.name) == layer.shape]
    return BankDiff(
        tuple(only_in_a),
        tuple(only_in_b),
        _others(a.spec, common),
        _others(b.spec, common),
        tuple(_task(a, b, name_a, name_b, common) for name_a, name_b in pairs),
        beside,
    )


def _task(a: MaskSource, b: MaskSource, name_a: str, name_b: str, common: Sequence[str]) -> TaskDiff:
    mask_a, mask_b = a[name_a], b[name_b]
    layers = tuple(LayerDiff(name, a.spec[name].size, _distance(mask_a, mask_b, name)) for name in common)
    return TaskDiff(
        name_a, name_b, layers, a.task_meta(name_a) == b.task_meta(name_b), _same_extras(a, b, name_a, name_b)
    )


def _distance(a: Mask, b: Mask, layer: str) -> int:
    return bits.hamming(a.words[a.spec[layer].packed], b.words[b.spec[layer].packed])


def _same_extras(a: MaskSource, b: MaskSource, name_a: str, name_b: str) -> bool:
    left, right = a.extras(name_a), b.extras(name_b)
    return list(left) == list(right) and all(_same_array(left[key], right[key]) for key in left)


def _same_array(a: Any, b: Any) -> bool:
    # bytes are compared, so that NaN equals itself
    return a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _others(spec: MaskSpec, common: Sequence[str]) -> tuple[str, ...]:
    known = set(common)
    return tuple(layer.name for layer in spec if layer.name not in known)
