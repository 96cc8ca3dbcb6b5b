"""The codec of patterns against plain Python, the entropy of what pruning makes, and foreign bytes."""

from math import comb, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstore import Mask, MaskSpec
from maskstore.codecs import Ans, EncodedLayer, Gap, Pattern, Raw, Zstd, encode_mask, size_of
from maskstore.codecs.coders import byte_rans, pattern_plan, pattern_tables
from maskstore.errors import CorruptError
from maskstore.masks import bits
from maskstore.priors import Uniform
from tests.helpers.references import pattern as reference


def decoded(layer, spec):
    return Pattern().decode_layer(layer, spec.layers[0], lambda: pytest.fail("contexts were built"))


def n_of_m(shape, n, m, axis, seed=0):
    """n of every m neighbours along a dimension."""
    turned = np.moveaxis(np.zeros(shape), axis, -1).shape
    scores = np.random.default_rng(seed).random((*turned[:-1], turned[-1] // m, m))
    return np.moveaxis((scores.argsort(-1).argsort(-1) >= m - n).reshape(turned), -1, axis)


def tiles(shape, tall, wide, density, seed=0):
    coarse = np.random.default_rng(seed).random((shape[0] // tall, shape[1] // wide)) < density
    return np.kron(coarse, np.ones((tall, wide))) > 0


def channels(shape, lines, places, density, seed=0):
    """Some rows and columns are empty."""
    rng = np.random.default_rng(seed)
    kept = np.outer(rng.random(shape[0]) < lines, rng.random(shape[1]) < places)
    return kept & (rng.random(shape) < density)


def rows_of_own_density(shape, power, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < rng.random((shape[0], 1)) ** power


def entropy(share):
    share = np.clip(share, 1e-12, 1 - 1e-12)
    return -(share * np.log2(share) + (1 - share) * np.log2(1 - share))


def coded_bits(dense):
    """Bits a bit by `pattern`, after checking that they come back."""
    mask = Mask.from_dense({"a": dense})
    _, (layer,) = encode_mask(Pattern(), mask, Uniform())
    assert np.array_equal(
        Pattern().decode_layer(layer, mask.spec.layers[0], lambda: pytest.fail("contexts")), mask.words
    )
    return 8 * size_of([layer]) / mask.spec.bits


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (1, 2)])
@pytest.mark.parametrize(
    ("shape", "axis"), [((256, 512), 0), ((256, 512), 1), ((100, 904), 1), ((64, 64, 3, 3), 1), ((64, 64, 3, 3), 0)]
)
def test_n_of_m_takes_the_bits_of_its_choices(n, m, shape, axis):
    expected = log2(comb(m, n)) / m
    assert coded_bits(n_of_m(shape, n, m, axis)) <= 1.01 * expected


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("never", [1, 37, 100])
def test_n_of_m_stays_so_where_some_lines_are_never_kept(axis, never):
    rng = np.random.default_rng(never)
    scores = rng.random((256, 512))
    columns = 4 * rng.permutation(128)[:never] + rng.integers(0, 4, never)
    scores[:, columns] = -1
    groups = scores.reshape(256, 128, 4)
    dense = (groups.argsort(-1).argsort(-1) >= 2).reshape(256, 512)
    assert not dense[:, columns].any()
    shape = (256, 512) if axis else (512, 256)
    assert coded_bits((dense if axis else dense.T).reshape(shape)) <= 1.01 * log2(comb(4, 2)) / 4


@pytest.mark.parametrize(("tall", "wide"), [(16, 16), (32, 1), (1, 32), (4, 4)])
def test_tiles_take_a_bit_each(tall, wide):
    found = coded_bits(tiles((1024, 1024), tall, wide, 0.3))
    assert found <= 1.02 * entropy(0.3) / (tall * wide) + 200 / 2**20


def test_kernels_of_convolutions_take_a_bit_each():
    kept = np.random.default_rng(0).random((128, 128)) < 0.25
    dense = np.broadcast_to(kept[..., None, None], (128, 128, 3, 3))
    assert coded_bits(dense) <= 1.02 * entropy(0.25) / 9


def test_empty_rows_and_columns_take_nothing_but_their_names():
    shape = (512, 768)
    dense = channels(shape, 0.6, 0.5, 0.5)
    inside = dense.any(1).mean() * dense.any(0).mean()
    assert coded_bits(dense) <= 1.01 * inside + sum(shape) / dense.size


def test_heads_take_nothing_but_their_names():
    kept = np.repeat(np.random.default_rng(0).random(16) < 0.5, 64)
    dense = kept[:, None] & (np.random.default_rng(1).random((1024, 256)) < 0.5)
    assert coded_bits(dense) <= 1.02 * kept.mean()


@pytest.mark.parametrize("turned", [False, True])
def test_lines_of_their_own_densities(turned):
    dense = rows_of_own_density((512, 2048), 2)
    expected = entropy(dense.mean(axis=1)).mean()
    assert coded_bits(dense.T if turned else dense) <= 1.02 * expected


@pytest.mark.parametrize("kept", [0.5, 0.1])
def test_so_many_of_each_row(kept):
    rng = np.random.default_rng(0)
    dense = rng.random((256, 2048)).argsort(axis=1).argsort(axis=1) < kept * 2048
    assert coded_bits(dense) <= 1.02 * log2(comb(2048, int(kept * 2048))) / 2048


@pytest.mark.parametrize(("density", "over"), [(0.5, 1.001), (0.1, 1.003), (0.01, 1.015)])
def test_independent_bits_take_their_entropy(density, over):
    dense = np.random.default_rng(0).random((512, 1024)) < density
    assert coded_bits(dense) <= over * entropy(dense.mean()) + 300 / dense.size


structured = st.builds(
    lambda kind, shape, seed: kind((shape[0] * 8, shape[1] * 8), seed),
    st.sampled_from(
        [
            lambda shape, seed: n_of_m(shape, 2, 4, seed % 2, seed),
            lambda shape, seed: tiles(shape, 4, 2, 0.4, seed),
            lambda shape, seed: channels(shape, 0.5, 0.5, 0.4, seed)[:-1, :-1],
            lambda shape, seed: rows_of_own_density(shape, 3, seed)[:, : -(seed % 8) or None],
            lambda shape, seed: rows_of_own_density(shape, 3, seed).T,
        ]
    ),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=40)
@given(structured)
def test_pattern_equals_its_reference(dense):
    mask = Mask.from_dense({"a": dense})
    _, (coded,) = encode_mask(Pattern(), mask, Uniform())
    assert reference.decode(coded.side, coded.payload, dense.shape) == dense.reshape(-1).astype(int).tolist()
    assert np.array_equal(
        Pattern().decode_layer(coded, mask.spec.layers[0], lambda: pytest.fail("contexts")), mask.words
    )


def test_four_lanes_equal_the_reference():
    dense = n_of_m((256, 2048), 2, 4, 1)
    _, (coded,) = encode_mask(Pattern(), Mask.from_dense({"a": dense}), Uniform())
    assert coded.side[0] >> 4 & 1
    assert reference.decode(coded.side, coded.payload, dense.shape) == dense.reshape(-1).astype(int).tolist()


@given(st.sampled_from(pattern_tables.GROUPS), st.data())
def test_tables_are_those_of_the_reference(group, data):
    weights = data.draw(st.lists(st.integers(0, 65535), min_size=group + 1, max_size=group + 1).filter(any))
    table = pattern_tables.frequencies(group, tuple(weights))
    assert table.tolist() == reference.frequencies(group, weights)
    assert table.sum() == 65536
    assert table.max() < 65536


@given(structured)
def test_a_plan_says_what_is_then_written(dense):
    mask = Mask.from_dense({"a": dense})
    plan = pattern_plan.plan(mask.words, mask.spec.layers[0])
    written = 8 * size_of([plan.encode()])
    assert abs(plan.bits - written) <= 64


@pytest.mark.parametrize(
    "dense",
    [
        n_of_m((512, 512), 2, 4, 0),
        n_of_m((512, 512), 4, 8, 1),
        tiles((512, 512), 16, 16, 0.3),
        tiles((512, 512), 1, 32, 0.3),
        channels((512, 512), 0.5, 0.5, 0.5),
        channels((2048, 2048), 0.6, 0.5, 0.5),
        rows_of_own_density((512, 512), 2),
        rows_of_own_density((512, 512), 2).T,
    ],
    ids=["2:4 down", "4:8 along", "16x16", "1x32", "channels", "sampled channels", "rows", "columns"],
)
def test_auto_finds_patterns(dense):
    mask = Mask.from_dense({"a": dense})
    codec, coded = encode_mask("auto", mask, Uniform())
    assert codec == Pattern()
    others = [size_of(encode_mask(other, mask, Uniform())[1]) for other in (Raw(), Zstd(), Gap(), Ans())]
    assert size_of(coded) < min(others)


@pytest.mark.parametrize(
    "dense",
    [
        n_of_m((512, 512), 2, 4, 0),
        tiles((512, 512), 16, 16, 0.3),
        channels((512, 512), 0.5, 0.5, 0.5),
        rows_of_own_density((512, 512), 2).T,
        np.random.default_rng(0).random((512, 512)) < 0.1,
    ],
    ids=["2:4 down", "16x16", "channels", "columns", "none"],
)
def test_what_some_blocks_have_is_enough_for_the_others(dense):
    mask, other = Mask.from_dense({"a": dense}), Mask.from_dense({"a": dense[::-1]})
    layer = mask.spec.layers[0]
    known = pattern_plan.together([pattern_plan.look(mask.words, layer)])
    assert pattern_plan.plan(other.words, layer, known).encode() == pattern_plan.plan(other.words, layer).encode()


def test_looks_together_have_what_any_of_them_has():
    both = pattern_plan.together(
        [pattern_plan.Look((1,), empty=True, tiles=False), pattern_plan.Look((0,), empty=False, tiles=True)]
    )
    assert both == pattern_plan.Look((0, 1), empty=True, tiles=True, uneven=False)


def test_lines_of_own_densities_are_seen():
    for dense, expected in (
        (rows_of_own_density((512, 512), 2), True),
        (np.random.default_rng(0).random((512, 512)) < 0.3, False),
    ):
        mask = Mask.from_dense({"a": dense.T})
        assert pattern_plan.look(mask.words, mask.spec.layers[0]).uneven == expected


def test_a_mask_of_layers_with_patterns_of_their_own():
    layers = {
        "q": n_of_m((256, 256), 2, 4, 1),
        "up": channels((256, 256), 0.5, 1.0, 0.9),
        "down": tiles((256, 256), 16, 16, 0.5),
        "norm": np.random.default_rng(0).random(256) < 0.5,
        "none": np.zeros((0, 4), dtype=bool),
    }
    codec, coded = encode_mask("auto", Mask.from_dense(layers), Uniform())
    assert codec == Pattern()
    assert size_of(coded) < 0.45 * sum(dense.size for dense in layers.values()) / 8


ONE = b"\x00" + b"\xff\xff" * 2  # groups of one bit, one class, density one half


@pytest.mark.parametrize(
    ("side", "payload"),
    [
        (b"", b""),
        (b"\x03" + ONE, b"\0" * 8),  # no such order
        (b"\x80\x01\x01" + ONE, b"\0" * 8),  # tiles of one bit
        (b"\x80\x03\x01" + ONE, b"\0" * 8),  # tiles that the rows are not made of
        (b"\x80\x00\x01" + ONE, b"\0" * 8),
        (b"\x20\xff\xff" + ONE, b"\0" * 8),  # flags of too many lines
        (b"\x20\x00", b"\0" * 8),  # bytes for nothing
        (b"\x20\x00" + ONE, b""),  # tables for nothing
        (b"\x00\x14" + b"\1\0" * 66, b"\0" * 8),  # 32 classes
        (b"\x00\x00" + b"\0\0" * 2, b"\0" * 8),  # a table without any byte
        (b"\x00" + ONE + b"\0", b"\0" * 8),  # a byte more
        (b"\x00" + ONE[:-1], b"\0" * 8),
        (b"\x00" + ONE, b"\0" * 8),  # states below the least
        (b"\x00" + ONE, b"\0\0\0\0\1\0\0\0\0"),
        (b"\x00" + ONE, b""),
        (b"\x00\x04" + b"\xff\xff" * 6, b"\0" * 8),  # no classes of lines
    ],
)
def test_pattern_refuses_side_information_it_does_not_write(side, payload):
    spec = MaskSpec({"a": (8, 5)})
    with pytest.raises(CorruptError):
        decoded(EncodedLayer(side, payload), spec)


def test_set_padding_is_refused():
    spec = MaskSpec({"a": (1, 5)})
    table = pattern_tables.tables(1, [(65535, 65535)])
    payload = byte_rans.encode(np.array([0x80], dtype=np.uint8), np.zeros(1, dtype=np.uint8), table, 1, 8.0)
    with pytest.raises(CorruptError, match="padding"):
        decoded(EncodedLayer(b"\0" + ONE, payload), spec)


def test_more_bits_than_the_bytes_can_hold_are_refused_before_anything_large_is_made():
    spec = MaskSpec({"a": (1 << 33,)})
    with pytest.raises(CorruptError, match="bytes enough"):
        decoded(EncodedLayer(b"\0" + ONE, b"\0" * 8), spec)


@given(st.integers(1, 40), st.integers(1, 130), st.integers(0, 99))
def test_ones_of_lines_are_counted(lines, places, seed):
    from maskstore.codecs.coders.lines import ones_of_lines

    dense = np.random.default_rng(seed).random((lines, places)) < 0.4
    assert ones_of_lines(bits.pack(dense), lines, places).tolist() == dense.sum(axis=1).tolist()


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_orders_are_those_of_numpy(outer, n, inner, of_eight, seed):
    from maskstore.codecs.coders.lines import Arrangement, Order

    factor = 8 if of_eight else 1
    dense = np.random.default_rng(seed).random((outer, n * factor, inner * factor)) < 0.4
    arrangement = Arrangement(Order.of(dense.shape, 2))
    turned = arrangement.collect(bits.pack(dense))
    assert bits.unpack(turned, dense.size).tolist() == np.moveaxis(dense, 1, 2).reshape(-1).tolist()
    back = np.zeros_like(turned)
    arrangement.spread(turned, back)
    assert back.tolist() == bits.pack(dense).tolist()
