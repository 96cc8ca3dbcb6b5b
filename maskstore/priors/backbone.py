"""The weights that masks were trained on, as far as coding a mask needs them: how large each one is in its layer.

A mask on a trained network drops small weights rather than large ones. Encoder and decoder both have the weights, so
their magnitudes are known before a bit is read (the prior `KeptWeights`). All arithmetic is that of integers, and the
same on every machine. `docs/format.md`, "Backbones", is normative.
"""

import hashlib
import struct
from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import ArgumentTypeError, BackboneError, SpecError
from maskstore.masks import MaskSpec, bits

Places = NDArray[np.uint32] | NDArray[np.uint64]
LEVELS = 64
"""Bins of the magnitudes of a layer, with equally many weights in each."""
FINGERPRINT_BYTES = 16


class Backbone:
    """The frozen weights of a network, by the names of the masked layers, as they are now.

    It copies what it needs: 4 bytes for each weight, and 1 once their bins were asked for. Later changes of the weights
    do not change it.

    Args:
        weights: Arrays or tensors of float32, float16 or bfloat16 by layer name, such as those of a state dict.
        spec: The layers to take, in order; others are left out. None takes all.

    Attributes:
        spec: The layers.
        fingerprint: 32 hexadecimal digits that stand for all values: BLAKE2b.

    Raises:
        ArgumentTypeError: Weights that are no dict, or a spec that is none.
        BackboneError: Values that are no floats of at most 32 bits, or not finite.
        SpecError: A layer of the spec is missing or has another shape.

    Examples:
        >>> import numpy as np
        >>> from maskstore import Backbone
        >>> Backbone({"fc": np.array([[0.5, -2.0], [0.0, 1.0]], dtype="f4")})
        Backbone(4 weights, fingerprint fdeda3f8...)
    """

    def __init__(self, weights: Mapping[str, Any], spec: MaskSpec | None = None) -> None:
        if not isinstance(weights, Mapping):
            raise ArgumentTypeError(
                f"backbone: expected arrays by layer name, such as `net.state_dict()`, found {type(weights).__name__}"
            )
        if spec is not None and not isinstance(spec, MaskSpec):
            raise ArgumentTypeError(f"spec of a backbone: expected a MaskSpec or None, found {type(spec).__name__}")
        names = list(weights) if spec is None else [layer.name for layer in spec]
        if missing := [name for name in names if name not in weights]:
            raise SpecError(f"backbone: expected weights of layer {missing[0]!r:.80}, found none")
        arrays = {name: _single(weights[name], name) for name in names}
        self.spec = MaskSpec({name: array.shape for name, array in arrays.items()})
        if spec is not None and self.spec != spec:
            raise SpecError(f"backbone: expected weights of {spec!r}, found {self.spec!r}")
        digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
        for name, array in arrays.items():
            text = name.encode()
            digest.update(struct.pack(f"<I{len(text)}sI{array.ndim}Q", len(text), text, array.ndim, *array.shape))
            digest.update(array.tobytes())
        self.fingerprint = digest.hexdigest()
        self._arrays = dict(enumerate(arrays.values()))  # of the layers whose bins nobody asked for yet
        self._levels: dict[int, NDArray[np.uint8]] = {}
        self._lock = Lock()
        self._places: dict[tuple[int, int, int], Places] = {}

    def levels(self, index: int) -> NDArray[np.uint8]:
        """The bin of each weight's magnitude in layer `index`, 0 to 63, in C order; computed when first asked for."""
        if index not in self._levels:
            with self._lock:
                if index not in self._levels:
                    self._levels[index] = _levels(self._arrays[index])
                    del self._arrays[index]
        return self._levels[index]

    def places(self, index: int, start: int, size: int) -> Places:
        """Of `size` weights from flat index `start` on, their places among these by ascending bin, `(size,)` unsigned.

        Kept once computed, up to 8 bytes for each weight of the network.
        """
        found = self._places.get((index, start, size))
        if found is None:
            found = by_context(self.levels(index)[start : start + size])
            if found.size + sum(each.size for each in list(self._places.values())) > 2 * self.spec.bits:
                self._places.clear()
            self._places[index, start, size] = found
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.spec, self.fingerprint, [self.levels(index) for index in range(len(self.spec))])

    def __repr__(self) -> str:
        return f"Backbone({self.spec.bits} weights, fingerprint {self.fingerprint[:8]}...)"


def _again(spec: MaskSpec, fingerprint: str, levels: list[NDArray[np.uint8]]) -> Backbone:
    """What `__reduce__` took apart."""
    made = Backbone.__new__(Backbone)
    made.spec, made.fingerprint = spec, fingerprint
    made._arrays, made._levels, made._places, made._lock = {}, dict(enumerate(levels)), {}, Lock()
    return made


def by_context(ids: NDArray[np.uint8]) -> Places:
    """The places of `(size,)` uint8 values by ascending value, those of one value ascending, `(size,)` unsigned."""
    places = np.argsort(ids, kind="stable")
    return places.astype(np.uint32) if ids.size <= 1 << 32 else places.astype(np.uint64)


def checked_backbone(backbone: object) -> Backbone | None:
    """What a caller gave as `backbone=`; ArgumentTypeError for what is none."""
    if backbone is not None and not isinstance(backbone, Backbone):
        raise ArgumentTypeError(f"backbone: expected a Backbone(weights) or None, found {type(backbone).__name__}")
    return backbone


def _single(value: Any, name: str) -> NDArray[np.float32]:
    array = bits.as_numpy(value, f"backbone {name!r:.80}")
    if array.dtype.kind != "f" or array.dtype.itemsize > 4:
        raise BackboneError(f"backbone {name!r:.80}: expected float32, float16 or bfloat16, found {array.dtype}")
    single = np.array(array, dtype="<f4", order="C")  # a copy, which nobody else changes
    if not np.isfinite(single).all():
        raise BackboneError(f"backbone {name!r:.80}: expected finite weights, found NaN or infinity")
    return single


def _levels(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    magnitudes = weights.reshape(-1).view("<u4") & np.uint32(0x7FFFFFFF)  # in the order of |w|
    if not len(magnitudes):
        return np.zeros(0, dtype=np.uint8)
    ranked = np.sort(magnitudes)
    edges = ranked[np.arange(1, LEVELS) * len(ranked) // LEVELS]
    levels: NDArray[np.uint8] = np.searchsorted(edges, magnitudes, side="right").astype(np.uint8)
    return levels
