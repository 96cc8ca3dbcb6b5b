"""What decoding may cost: little bytes must not ask for much memory and time, unless the caller allows it.

`docs/format.md`, "What reading may cost", has the promise and the figures.
"""

from maskstore.codecs.base import Codec, EncodedLayer
from maskstore.errors import LimitError
from maskstore.files import check_wanted
from maskstore.masks import LayerSpec

FREE_BYTES = 1 << 30  # that much is decoded from however few bytes
RATIO = 512  # and of more, so many times the coded bytes: more than a mask with one bit in 5 000 set has


class Budget:
    """What one call may still decode, in bytes of packed masks.

    A byte of a slow codec counts as often as it takes longer (`Codec.weight`), and so do the coded bytes it came from.

    Args:
        limit: The most bytes, however few the coded ones are; `FREE_BYTES`, or `RATIO` times the coded bytes if that is
            more, if not given.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._spent = self._earned = 0

    def spend(
        self,
        what: str,
        codec: Codec,
        coded: EncodedLayer,
        layer: LayerSpec,
        *,
        size: int | None = None,
        unpacked: bool = False,
    ) -> None:
        """Count a layer before it is decoded; LimitError, which begins with `what`, if that is too much.

        `size`: its coded bytes, where the payload was not read. `unpacked`: it will also be unpacked to a byte for each
        bit.
        """
        check_wanted()
        size = len(coded.side) + len(coded.payload) if size is None else size
        self._spent += codec.cost(coded, layer) + (layer.size if unpacked else 0)
        self._earned += RATIO * size * (codec.weight + (8 if unpacked else 0))
        allowed = max(FREE_BYTES, self._earned) if self._limit is None else self._limit
        if self._spent > allowed:
            raise LimitError(
                f"{what}: expected to decode at most {allowed} bytes in one call, found {self._spent} or more in all "
                f"(a larger `limit` allows it, for a file that you trust)"
            )
