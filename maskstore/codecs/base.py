"""What every codec promises."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskstore._configured import Configured
from maskstore.errors import CorruptError
from maskstore.masks import LayerSpec
from maskstore.priors import Contexts


class EncodedLayer(NamedTuple):
    """One coded layer: what describes the probability model, and what the coder wrote under it."""

    side: bytes
    payload: bytes


class Plan(NamedTuple):
    """How a codec would code a layer, before it does."""

    bits: float
    """What that would take, estimated."""
    encode: Callable[[], EncodedLayer]
    """Codes the layer; what was found for the estimate is not looked for again."""


ContextSource = Callable[[], Contexts]
"""Contexts cost time, so a codec is handed a function and calls it only if it conditions on them."""


class Piece(NamedTuple):
    """A layer, a block of one or a sample of one, to be coded."""

    words: NDArray[np.uint64]
    layer: LayerSpec
    """Its own shape, and of a block its place in the layer (`maskstore.masks.Cut`)."""
    contexts: ContextSource


Planner = Callable[[NDArray[np.uint64], LayerSpec, ContextSource], Plan]
"""`Codec.plan`, or what does the same with more known about the layer."""


class Codec(Configured):
    """Base of all codecs. `decode_layer(encode_layer(words)) == words`, given the same layer and contexts.

    Codecs code one layer at a time, so that one layer can be read without the others. `words` are packed bits as
    `maskstore.masks.bits` defines them, `(layer.words,)` uint64. Decoding foreign bytes gives the right bits or raises
    `CorruptError`; it never allocates more than a small multiple of the declared bits.
    """

    weight: ClassVar[int] = 1
    """How many bytes of plain packed bits cost as much memory or time as decoding one byte of them does."""
    by_ones: ClassVar[bool] = False
    """Whether its time grows with the rarer bits alone; `cost` then looks for their number in the side information."""

    @abstractmethod
    def encode_layer(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Code one layer."""

    def plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """How the codec would code a layer; one that can't tell the bits without coding has coded it then."""
        coded = self.encode_layer(words, layer, contexts)
        return Plan(8.0 * (len(coded.side) + len(coded.payload)), lambda: coded)

    def planner(self, blocks: Sequence[Piece]) -> tuple[Planner, int]:
        """What plans the blocks of a layer; what these few of them tell need not be found in each of the others.

        And the binary logarithm of the bits that a block of such a layer should have at least.
        """
        return self.plan, 0

    def cost(self, coded: EncodedLayer, layer: LayerSpec) -> int:
        """About what decoding a layer costs, in bytes of plain packed bits."""
        return self.weight * layer.bytes

    @abstractmethod
    def decode_layer(self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource) -> NDArray[np.uint64]:
        """The packed words of one layer; CorruptError if the bytes are not what this codec writes."""

    def decode_into(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """As `decode_layer`, into `words`, which are all zero."""
        words[:] = self.decode_layer(coded, layer, contexts)


class EntropyCodec(Codec):
    """Base of the codecs that write no bytes for no bits; each says how it codes a layer of at least one bit."""

    def encode_layer(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Code one layer."""
        return self._encode(words, layer, contexts) if layer.size else EncodedLayer(b"", b"")

    def decode_layer(self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource) -> NDArray[np.uint64]:
        """The packed words of one layer; CorruptError if the bytes are not what this codec writes."""
        words = np.zeros(layer.words, dtype=np.uint64)
        self.decode_into(coded, layer, contexts, words)
        return words

    def decode_into(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """As `decode_layer`, into `words`, which are all zero."""
        if layer.size:
            self._decode(coded, layer, contexts, words)
        elif coded.side or coded.payload:
            raise CorruptError(f"layer {layer.name!r}: expected no bytes for no bits, found some")

    def plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """How the codec would code a layer."""
        return self._plan(words, layer, contexts) if layer.size else Plan(0.0, lambda: EncodedLayer(b"", b""))

    def _plan(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> Plan:
        """How the codec would code a layer of at least one bit."""
        return super().plan(words, layer, contexts)

    @abstractmethod
    def _encode(self, words: NDArray[np.uint64], layer: LayerSpec, contexts: ContextSource) -> EncodedLayer:
        """Code a layer of at least one bit."""

    @abstractmethod
    def _decode(
        self, coded: EncodedLayer, layer: LayerSpec, contexts: ContextSource, words: NDArray[np.uint64]
    ) -> None:
        """Decode such a layer into `words`, which are all zero; CorruptError as `decode_layer`."""
