"""`mix`: everything a mask tells about itself while it is decoded; the slowest codec, and the one with the fewest bits.

Side information: one byte `turned << 4 | form`, then the probability table of the `ans` codec, which gives each
context's lean. Payload: the range coder's bytes. The layer is a matrix of its first size x all others; `turned` says
that it is coded column by column. See `docs/format-codecs.md`, "Codec mix"; `maskstore.codecs.coders.mix_model`
has the model.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.ans import counts_by_context
from maskstore.codecs.base import ContextSource, EncodedLayer, EntropyCodec
from maskstore.codecs.jobs import side_by_side
from maskstore.errors import CorruptError
from maskstore.masks import LayerSpec
from maskstore.priors import Contexts

_WORTH_A_JOB = 1 << 13  # bits


@dataclass(frozen=True)
class Mix(EntropyCodec):
    """Adaptive coding: the prior's contexts, rows, columns and learned factors, mixed bit by bit.

    It decodes tens of millions of bits a second; coding takes twice as long, on two cores.

    Examples:
        Rows of different densities, which no prior told of, are learned while they pass:

        >>> import numpy as np
        >>> from maskstore import Mask, Uniform
        >>> from maskstore.codecs import Ans, Mix, encode_mask, size_of
        >>> rng = np.random.default_rng(0)
        >>> mask = Mask.from_dense({"fc1": rng.random((100, 200)) < rng.random((100, 1))})
        >>> [size_of(encode_mask(codec, mask, Uniform())[1]) for codec in (Ans(), Mix())]
        [2510, 2057]
    """

    id: ClassVar[str] = "mix"
    weight: ClassVar[int] = 512  # its time

    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Code the layer both ways round and keep the shorter."""
        from maskstore.codecs import tables
        from maskstore.codecs.coders import mix_model

        known = contexts()
        table, _ = tables.choose(counts_by_context(words, known), known)
        model = mix_model.Known(known.ids, table.log_odds(known), _directions(known), _matrix(layer))
        ways = [partial(mix_model.encode, words, model, turned) for turned in (False, True)[: min(model.shape)]]
        coded = list(side_by_side(ways)) if layer.size >= _WORTH_A_JOB else [way() for way in ways]
        payload, turned = min(zip(coded, (0, 1), strict=False), key=lambda way: len(way[0]))
        return EncodedLayer(bytes([turned << 4 | table.form]) + table.write(), payload)

    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """The range coder must end inside its interval with every byte used, or the bytes are corrupt."""
        if not coded.side or coded.side[0] >> 5:
            raise CorruptError(f"layer {layer.name!r}: expected the side information of mix, found other bytes")
        from maskstore.codecs import tables
        from maskstore.codecs.coders import mix_model, range_coder

        if range_coder.fewest_bytes(layer.size) > len(coded.payload):
            raise CorruptError(f"layer {layer.name!r}: expected bytes enough for {layer.size} bits, "
                               f"found {len(coded.payload)}")  # fmt: skip
        known = contexts()
        table = tables.read_table(coded.side[0] & 15, coded.side[1:], known)
        model = mix_model.Known(known.ids, table.log_odds(known), _directions(known), _matrix(layer))
        if not mix_model.decode(coded.payload, model, bool(coded.side[0] >> 4), words):
            raise CorruptError(f"layer {layer.name!r}: expected the coder to end in its interval, found it elsewhere")


def _matrix(layer: LayerSpec) -> tuple[int, int]:
    """(rows, columns) of a layer: its first size and the product of the others; one row if it has one dimension."""
    rows = layer.shape[0] if len(layer.shape) > 1 else 1
    return rows, layer.size // rows


def _directions(known: Contexts) -> NDArray[np.int64]:
    """+1 or -1 for every context, shape `(levels * classes,)`."""
    return np.tile(np.array(known.directions or (1,) * known.classes, dtype=np.int64), known.levels)
