"""`Expected`: the prior of messages whose sender and receiver both know a probability for each bit."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskstore.errors import CodecError, MaskValueError, SpecError
from maskstore.masks import LayerSpec, Mask, MaskSpec, bits
from maskstore.priors import Contexts, Prior

_DIGEST_BYTES = 8
_LEVELS = 128  # 0 to 89 are used
_CHUNK = 1 << 22  # probabilities that are looked at together


class Expected(Prior):
    """The probability of each bit, which sender and receiver both know: the server's running mean, say.

    Only messages take it (`encode_mask`): a bank must be readable without what is not in it. Probabilities become 90
    levels, even in log-odds, so that both sides need them equal only to a level. A message holds a digest of the
    levels, and a receiver that expects something else gets an error, not another mask.

    Args:
        probabilities: Layer name to array of numbers in [0, 1]; or a `Mask`, whose bits are expected as they are.
        spec: The layers. Without it, those of the dict.

    Raises:
        SpecError: Names or shapes are not those of the layers.
        MaskValueError: A probability is not in [0, 1].

    Examples:
        A client sends the mask that it drew; the server knows the probabilities it was drawn from:

        >>> import numpy as np
        >>> from maskstore import Expected, MaskSpec, decode_mask, encode_mask
        >>> rng = np.random.default_rng(0)
        >>> mean = {"fc1": rng.beta(0.3, 0.3, (300, 784)).astype(np.float32)}
        >>> drawn = {"fc1": rng.random((300, 784)) < mean["fc1"]}
        >>> sizes = [len(encode_mask(drawn, prior=prior)) for prior in (None, Expected(mean))]
        >>> [round(8 * size / drawn["fc1"].size, 2) for size in sizes]
        [1.0, 0.43]
        >>> mask = decode_mask(encode_mask(drawn, prior=Expected(mean)), MaskSpec.of(mean), prior=Expected(mean))
        >>> np.array_equal(mask["fc1"], drawn["fc1"])
        True
    """

    id = "expected"

    def __init__(self, probabilities: Mapping[str, Any] | Mask, spec: MaskSpec | None = None) -> None:
        if isinstance(probabilities, Mask):
            spec = spec or probabilities.spec
            probabilities = probabilities.dense()
        if not hasattr(probabilities, "items"):
            raise SpecError(f"expected probabilities: expected a dict of layer name to array, "
                            f"found {type(probabilities).__name__}")  # fmt: skip
        if spec is not None and not isinstance(spec, MaskSpec):
            raise SpecError(f"expected probabilities: expected a spec such as MaskSpec.of(masks), "
                            f"found {type(spec).__name__}")  # fmt: skip
        arrays = {name: bits.as_numpy(value, f"layer {name!r:.80}") for name, value in probabilities.items()}
        self.spec = spec or MaskSpec.of(arrays)
        for name in arrays:
            self.spec.index(name)
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._levels = []
        for layer in self.spec:
            found = arrays.get(layer.name)
            if found is None or found.shape != layer.shape:
                shape = "no such layer" if found is None else f"shape {found.shape}"
                raise SpecError(
                    f"probabilities of layer {layer.name!r:.80}: expected shape {layer.shape}, found {shape}"
                )
            self._levels.append(_levels_of(found, layer.name))
            digest.update(self._levels[-1].data)
        self.digest = digest.hexdigest()

    def to_config(self) -> dict[str, Any]:
        """CodecError: JSON cannot hold it, so a bank cannot."""
        raise CodecError("prior expected: expected one that a bank can hold, found one that only `encode_mask` takes "
                         "(Reference or RunningMean refer to masks of the bank)")  # fmt: skip

    def contexts(
        self, spec: MaskSpec, index: int, bases: Sequence[Mask] = (), part: LayerSpec | None = None
    ) -> Contexts:
        """128 levels, of which 90 are used, and one class."""
        levels = self._levels[index]
        return Contexts(levels if part is None else levels[part.flat], levels=_LEVELS, classes=1)

    def __repr__(self) -> str:
        return f"Expected({len(self.spec)} layers, {self.spec.bits} probabilities)"


@cache
def _level_table() -> NDArray[np.uint8]:
    """How many of P(0), P(2), ..., P(176) are at most n, for n = 0 ... 65536, `(65537,)`."""
    points = np.rint(65536 / (1 + np.exp(-(np.arange(0, 177, 2) - 88) / 8)))
    return np.searchsorted(points, np.arange(65537), side="right").astype(np.uint8)


def _levels_of(probabilities: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """The level of each probability, `(size,)`."""
    what = f"probabilities of layer {name!r:.80}"
    if probabilities.dtype.kind not in "biuf":
        raise MaskValueError(f"{what}: expected numbers in [0, 1], found dtype {probabilities.dtype}")
    flat, levels = probabilities.reshape(-1), np.empty(probabilities.size, dtype=np.uint8)
    for first in range(0, flat.size, _CHUNK):
        values = flat[first : first + _CHUNK].astype(np.float64)
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            raise MaskValueError(f"{what}: expected numbers in [0, 1], found {values[wrong][0]}")
        levels[first : first + _CHUNK] = _level_table()[(values * 65536).astype(np.int64)]
    levels.flags.writeable = False
    return levels
