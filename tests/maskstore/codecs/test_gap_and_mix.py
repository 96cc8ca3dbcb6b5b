"""The sparse codec, the adaptive codec and the coder below them against plain Python and against the entropy."""

import hashlib
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from maskstore import Mask, MaskSpec
from maskstore.codecs import Ans, ContextGap, EncodedLayer, Gap, Mix, Zstd, encode_mask, size_of
from maskstore.codecs.coders import gap_loop as gaps
from maskstore.codecs.coders import mix_model as mixing
from maskstore.codecs.coders import range_coder as rangecoder
from maskstore.errors import CorruptError
from maskstore.masks import bits
from maskstore.philox import Role, random_packed_bits, random_uniform
from maskstore.priors import Contexts, SeededScores, Uniform
from tests.helpers.masks import random_mask
from tests.helpers.references import mix as mix_reference


def layer_of(shape, dense):
    mask = Mask.from_dense({"a": np.asarray(dense, dtype=bool).reshape(shape)})
    return mask.words, mask.spec.layers[0]


def no_contexts():
    pytest.fail("contexts were built")


# -- gap ---------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.data())
def test_positions_are_those_of_the_bits(size, data):
    dense = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    words = bits.pack(dense)
    for flipped in (False, True):
        expected = np.flatnonzero(dense != flipped)
        assert gaps.positions(words, size, expected.size, flipped).tolist() == expected.tolist()


def gap_reference(where, size):
    """The gaps' digits with the probabilities that `docs/format-codecs.md` gives them, in Python integers."""
    spaces = np.diff(where, prepend=-1) - 1
    digits = int(max(spaces)).bit_length()
    power, odds, plain = ((size - len(where)) << 32) // size, [], 0
    for j in range(digits):
        odds.append([(power << 28) // (2**32 + power)] * 2)
        plain += power > 15 * 2**28 and plain == j
        power = power**2 >> 32
    seen, coder = [[0, 0] for _ in range(digits)], mix_reference.Encoder()
    for space in spaces.tolist():
        above = 0
        for j in reversed(range(digits)):
            bit = space >> j & 1
            if above and j < plain:
                coder.code(bit, 32768)
                continue
            coder.code(bit, max(1, min(65535, odds[j][above] >> 12)))
            odds[j][above] += ((bit << 28) - odds[j][above]) * (65536 // (32 + seen[j][above])) >> 16
            seen[j][above] = min(seen[j][above] + 1, 992)
            above |= bit
    return digits, coder.bytes()


@given(st.integers(1, 3000), st.sampled_from([0.001, 0.02, 0.1, 0.4]), st.integers(0, 99))
def test_gap_equals_its_reference(size, density, seed):
    words, layer = layer_of((size,), np.random.default_rng(seed).random(size) < density)
    coded = Gap().encode_layer(words, layer, no_contexts)
    where = np.flatnonzero(bits.unpack(words, size))
    if where.size and 2 * where.size <= size:
        digits, payload = gap_reference(where, size)
        assert (coded.side[-1], coded.payload) == (digits, payload)


@given(st.integers(1, 3000), st.integers(0, 99), st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_context_gap_is_gap_over_the_bits_by_ascending_context(size, seed, density):
    rng = np.random.default_rng(seed)
    words, layer = layer_of((size,), rng.random(size) < density)
    known = Contexts(rng.integers(0, 8, size).astype("u1"), levels=8, classes=1)
    order = sorted(range(size), key=lambda place: (known.ids[place], place))
    ordered, _ = layer_of((size,), bits.unpack(words, size)[order])
    coded = ContextGap().encode_layer(words, layer, lambda: known)
    assert coded == Gap().encode_layer(ordered, layer, no_contexts)
    assert np.array_equal(ContextGap().decode_layer(coded, layer, lambda: known), words)


def test_context_gap_builds_no_contexts_for_bytes_that_cannot_be_right():
    _, layer = layer_of((32,), np.zeros(32))
    for coded in (EncodedLayer(b"\x04\xff", b"\1"), EncodedLayer(b"\x22\x03", b"\1"), EncodedLayer(b"", b"")):
        with pytest.raises(CorruptError, match="expected"):
            ContextGap().decode_layer(coded, layer, no_contexts)


@pytest.mark.parametrize("density", [0.25, 0.05, 0.005, 1e-4, 0.97])
def test_gap_is_near_the_entropy_and_below_every_simple_format(density):
    size = 1 << 20
    mask = random_mask(MaskSpec({"a": (size,)}), density, 1)
    coded = 8 * size_of(encode_mask(Gap(), mask, Uniform())[1])
    entropy = -size * (mask.density * log2(mask.density) + (1 - mask.density) * log2(1 - mask.density))
    assert coded <= 1.01 * entropy + 8 * 12
    rarer = min(mask.ones, size - mask.ones)
    assert coded < min(16 * rarer, 8 * size_of(encode_mask(Zstd(level=19), mask, Uniform())[1]))


def test_gap_needs_bytes_only_for_ones():
    words, layer = layer_of((1 << 26,), np.zeros(1 << 26, dtype=bool))
    words = words.copy()
    for position in (0, 5, 1 << 25, (1 << 26) - 1):
        words[position >> 6] |= np.uint64(1) << np.uint64(position & 63)
    coded = Gap().encode_layer(words, layer, no_contexts)
    assert len(coded.side) + len(coded.payload) < 20
    assert np.array_equal(Gap().decode_layer(coded, layer, no_contexts), words)


@pytest.mark.parametrize(
    ("side", "payload"),
    [
        (b"", b""),
        (b"\x80", b""),
        (b"\x80\x00", b""),  # a needlessly long number
        (b"\x22\x03", b"\1"),  # more than half of the bits
        (b"\x04\xff", b"\1"),  # digits that reach beyond the layer
        (b"\x04\x05", b"\xff" * 9),  # positions beyond the layer
        (b"\x04\x02", b"\1\0"),  # a needless byte
        (b"\x00", b"\1"),
        (b"\x04", b"\1"),
    ],
)
def test_gap_refuses_what_it_does_not_write(side, payload):
    _, layer = layer_of((32,), np.zeros(32))
    with pytest.raises(CorruptError):
        Gap().decode_layer(EncodedLayer(side, payload), layer, no_contexts)


# -- the range coder ---------------------------------------------------------------------------------------------------


@njit
def coded_by_numba(bits, ones, out):
    low, width, at = np.uint64(0), rangecoder.WHOLE, np.int64(0)
    for i in range(bits.size):
        low, width, at = rangecoder.encode_bit(low, width, at, out, bits[i], ones[i])
    return rangecoder.finish(low, width, at, out)


@njit
def decoded_by_numba(data, ones, out):
    code, width, at = rangecoder.first_code(data), rangecoder.WHOLE, np.int64(8)
    for i in range(out.size):
        out[i], code, width, at = rangecoder.decode_bit(code, width, at, data, ones[i])
    return rangecoder.ended_well(code, width, at, data)


def check_range_coder(bit_list, ones_list):
    encoder = mix_reference.Encoder()
    for bit, ones in zip(bit_list, ones_list, strict=True):
        encoder.code(bit, ones)
    array, ones_array = np.array(bit_list, dtype=np.int64), np.array(ones_list, dtype=np.int64)
    out = np.zeros(64 + 2 * len(bit_list), dtype=np.uint8)
    used = coded_by_numba(array, ones_array, out)
    assert out[:used].tobytes() == encoder.bytes()
    back = np.zeros_like(array)
    assert decoded_by_numba(out[:used], ones_array, back)
    assert back.tolist() == bit_list
    assert used == 0 or not decoded_by_numba(np.append(out[:used], np.uint8(0)), ones_array, back)
    assert coded_by_numba(array, ones_array, np.zeros(max(0, used - 12), dtype=np.uint8)) == -1 or used < 12
    return out[:used].tobytes()


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([1, 2, 300, 32768, 60000, 65535])), max_size=300))
def test_the_range_coder_equals_its_reference(pairs):
    check_range_coder([bit for bit, _ in pairs], [ones for _, ones in pairs])


@pytest.mark.parametrize("last", [0, 1])
def test_a_carry_runs_through_many_bytes(last):
    """Bits that keep the interval astride its first middle, so that the last one settles bytes written long before."""
    low, width, words, bit_list, ones_list = 0, mix_reference.WHOLE, 2, [], []
    for i in range(400):
        ones = (40503 * i + 12345) % 65535 + 1
        bound, middle = (width >> 16) * ones, 1 << 32 * words - 1
        bit = int(middle < low + bound)
        low, width = (low, bound) if bit else (low + bound, width - bound)
        while width < 2**32:
            low, width, words = low << 32, width << 32, words + 1
        bit_list.append(bit)
        ones_list.append(min(ones, 65535))
    written = check_range_coder(bit_list + [last] * 9, ones_list + [32768] * 9)
    assert written[1:31] == (bytes(30) if last == 0 else b"\xff" * 30)


# -- mix ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.01, 0.3, 0.5, 1.0]),
)
def test_mix_equals_its_reference(shape, turned, seed, density):
    rng = np.random.default_rng(seed)
    size = shape[0] * shape[1]
    dense = rng.random(size) < density
    leans, directions = rng.integers(-45056, 45057, 5), rng.choice([-1, 1], 5)
    ids = rng.integers(0, 5, size).astype(np.uint8)
    words = bits.pack(dense)
    known_layer = mixing.Known(ids, leans, directions, shape)
    coded = mixing.encode(words, known_layer, turned)
    out = np.zeros_like(words)
    assert mixing.decode(coded, known_layer, turned, out)
    assert np.array_equal(out, words)

    per_bit = (leans[ids].tolist(), directions[ids].tolist(), shape, turned)
    known = (mixing.SQUASH.tolist(), mixing.STRETCH.tolist())
    encoder = mix_reference.Encoder()
    mix_reference.run(encoder, dense.astype(int).tolist(), *per_bit, *known)
    assert encoder.bytes() == coded
    assert mix_reference.run(mix_reference.Decoder(coded), [0] * size, *per_bit, *known) == dense.tolist()


def test_the_tables_of_mix_are_far_from_rounding_ties():
    """So that every correct implementation of exp and log gives the same integers; their hashes are pinned."""
    squash = 65536 / (1 + np.exp((47096 - 16 * np.arange(5888)) / 4096))
    stretch = -8192 - 4096 * np.log((2 * np.arange(4096) + 1) / (8191 - 2 * np.arange(4096)))
    for exact in (squash, stretch):
        assert np.min(np.abs(exact - np.floor(exact) - 0.5)) > 1e-6
    for table, digest in ((mixing.SQUASH, "e66cfd43ead6448d"), (mixing.STRETCH, "d6db737ab29d0798")):
        assert hashlib.blake2b(table.astype("<i8").tobytes(), digest_size=8).hexdigest() == digest


def drifted_mask(spec, prior, rank, noise):
    """A mask like a trained one: scores moved by factors of rows and columns along or against their weights' signs."""
    rng, layers = np.random.default_rng(5), []
    for i, layer in enumerate(spec):
        score = random_uniform(prior.seed, Role.SCORE, layer.size, layer=i, stream=prior.task).reshape(layer.shape)
        positive = bits.unpack(random_packed_bits(prior.seed, Role.WEIGHT_SIGN, layer.size, layer=i), layer.size)
        moved = rng.standard_normal((layer.shape[0], rank)) @ rng.standard_normal((rank, layer.shape[1]))
        moved = 0.3 * moved / np.sqrt(rank) + noise * rng.standard_normal(layer.shape)
        layers.append(score + np.where(positive.reshape(layer.shape), moved, -moved) > 0)
    return Mask.from_dense(dict(zip(spec.shapes, layers, strict=True)), spec)


def test_mix_finds_factors_that_rows_and_columns_share():
    spec, prior = MaskSpec({"fc1": (120, 200)}), SeededScores(seed=3, task=1)
    mask = drifted_mask(spec, prior, rank=2, noise=0.02)
    mixed, static = (size_of(encode_mask(codec, mask, prior)[1]) for codec in (Mix(), Ans()))
    assert mixed < 0.6 * static


@pytest.mark.parametrize("density", [0.5, 0.1, 0.005])
def test_mix_costs_little_where_there_is_nothing_to_learn(density):
    mask = random_mask(MaskSpec({"a": (256, 512)}), density, 1)
    mixed, static = (size_of(encode_mask(codec, mask, Uniform())[1]) for codec in (Mix(), Ans()))
    assert mixed < 1.02 * static + 16


@pytest.mark.parametrize("side", [b"", b"\x20\x58", b"\x0f\x58", b"\x00", b"\x00\x58\x00"])
def test_mix_refuses_side_information_it_does_not_write(side):
    spec = MaskSpec({"a": (8, 8)})
    with pytest.raises(CorruptError):
        Mix().decode_layer(EncodedLayer(side, b"\1"), spec.layers[0], lambda: Uniform().contexts(spec, 0))


@pytest.mark.parametrize("codec", [Gap(), Mix()])
def test_more_bits_than_the_bytes_can_hold_are_refused_before_anything_large_is_made(codec):
    spec = MaskSpec({"a": (1 << 27, 1 << 3)})
    side = b"\xfe\xff\xff\xff\x07\x1e" if codec == Gap() else b"\0\x58"
    with pytest.raises(CorruptError):
        codec.decode_layer(EncodedLayer(side, bytes([1] * 40)), spec.layers[0], no_contexts)
