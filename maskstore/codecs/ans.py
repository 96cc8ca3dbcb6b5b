"""`ans`: entropy coding under one static probability per context, measured for each layer.

Side information: one byte `log2(lanes) << 4 | form`, then the probability table of that form, the one that gives the
shortest description, table included (`maskstore.codecs.tables`). Payload: 32-bit little-endian words of the rANS
coder. See `docs/format.md`, "Codec ans".
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from maskstore.codecs.base import ContextSource, EncodedLayer, EntropyCodec, Plan
from maskstore.errors import CorruptError
from maskstore.masks import LayerSpec
from maskstore.priors import Contexts


@dataclass(frozen=True)
class Ans(EntropyCodec):
    """Context-conditional coding by binary rANS; within a fraction of a per cent of the contexts' entropy.

    Source: Duda, "Asymmetric numeral systems", arXiv 1311.2540.

    Examples:
        A mask that follows the signs of its initial scores, coded with and without the seed that they came from:

        >>> import numpy as np
        >>> from maskstore import Mask, MaskSpec, SeededScores, Uniform
        >>> from maskstore.codecs import Ans, encode_mask, size_of
        >>> from maskstore.philox import Role, random_uniform
        >>> spec = MaskSpec({"fc1": (300, 784)})
        >>> scores = random_uniform(7, Role.SCORE, spec.bits, layer=0, stream=1)
        >>> noise = 0.2 * np.random.default_rng(0).standard_normal(spec.bits)
        >>> mask = Mask.from_flat(scores + noise > 0, spec)
        >>> for prior in (Uniform(), SeededScores(seed=7, task=1)):
        ...     _, layers = encode_mask(Ans(), mask, prior)
        ...     print(prior.id, round(8 * size_of(layers) / spec.bits, 2), "bits a parameter")
        uniform 1.0 bits a parameter
        seeded-scores 0.26 bits a parameter
    """

    id: ClassVar[str] = "ans"
    weight: ClassVar[int] = 9  # a byte for each bit's context

    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        return self._plan(words, layer, contexts).encode()

    def _plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """Counts tell the bits; the table that is chosen by them is the one that is coded with."""
        from maskstore.codecs.coders import rans

        return rans.plan(words, contexts())

    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """The coder must end in its start state with every word used, or the bytes are corrupt."""
        if not coded.side or coded.side[0] >> 4 not in (0, 2):
            raise CorruptError(f"layer {layer.name!r}: expected the side information of ans, found other bytes")
        if len(coded.payload) % 4:
            raise CorruptError(f"layer {layer.name!r}: expected whole words of 4 bytes, found {len(coded.payload)}")
        # the cheapest bit costs log2(65536 / 65535) bits: a longer layer cannot hide in so few bytes
        if layer.size > (len(coded.payload) * 8 + 64) * 45426:
            raise CorruptError(f"layer {layer.name!r}: expected bytes enough for {layer.size} bits, "
                               f"found {len(coded.payload)}")  # fmt: skip
        from maskstore.codecs import tables
        from maskstore.codecs.coders import rans

        known = contexts()
        table = tables.read_table(coded.side[0] & 15, coded.side[1:], known)
        stream = np.frombuffer(coded.payload, dtype="<u4").astype(np.uint32, copy=False)
        if not rans.decode(known.ids, table.probabilities(known), 1 << (coded.side[0] >> 4), stream, words):
            raise CorruptError(f"layer {layer.name!r}: expected the coder to end in its start state, found another")


def counts_by_context(words: NDArray[np.uint64], known: Contexts) -> NDArray[np.int64]:
    """Zeros and ones seen in each context of a layer, `(levels * classes, 2)` int64."""
    from maskstore.codecs.coders import rans

    counts: NDArray[np.int64] = rans.count(known.ids, words, known.levels * known.classes)
    return counts
