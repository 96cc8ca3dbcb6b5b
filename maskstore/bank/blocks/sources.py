"""Where the bits of a mask come from: packed words, arrays of any kind, or an iterator that gives layer after layer."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from maskstore.masks import LayerSpec, Mask

Take = Callable[[LayerSpec], Callable[[], NDArray[np.uint64]]]
"""Of a block of a layer: a function that gives its packed words, and may be called in any thread."""


def layers_of(mask: Mask) -> Iterator[Take]:
    """The layers of a packed mask, for `BlockEncoder`."""

    def take(layer: LayerSpec, block: LayerSpec) -> Callable[[], NDArray[np.uint64]]:
        return lambda: mask.words[layer.packed][block.packed]

    return (partial(take, layer) for layer in mask.spec)
