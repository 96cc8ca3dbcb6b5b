"""One set of checks for every codec, golden bytes for each, and the coder against its reference."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskstore import Mask, MaskSpec
from maskstore.codecs import (
    Ans,
    Codec,
    ContextGap,
    EncodedLayer,
    Gap,
    Mix,
    Pattern,
    Raw,
    Zstd,
    codec_from_config,
    codec_names,
    codec_to_json,
    encode_mask,
    get_codec,
    size_of,
)
from maskstore.codecs.coders import rans
from maskstore.codecs.tables import table as tables
from maskstore.errors import CodecError, CorruptError, UnknownCodecError, UnknownPriorError
from maskstore.philox import Role, random_uniform
from maskstore.priors import Contexts, Prior, SeededScores, Uniform, prior_from_config
from tests.helpers.masks import masks, priors, random_mask
from tests.helpers.references import rans as rans_reference

CODECS: list[Codec] = [Raw(), Zstd(), Zstd(level=1), Gap(), ContextGap(), Ans(), Mix(), Pattern()]


def decode(codec: Codec, coded: list[EncodedLayer], spec: MaskSpec, prior: Prior) -> Mask:
    words = [
        codec.decode_layer(piece, layer, lambda i=i: prior.contexts(spec, i))
        for i, (piece, layer) in enumerate(zip(coded, spec, strict=True))
    ]
    return Mask(spec, np.concatenate([np.zeros(0, np.uint64), *words]))


@pytest.mark.parametrize("codec", CODECS, ids=codec_to_json)
@given(mask=masks(), prior=priors)
def test_decoding_gives_back_what_was_coded(codec, mask, prior):
    assert decode(codec, encode_mask(codec, mask, prior)[1], mask.spec, prior) == mask


@pytest.mark.parametrize("codec", CODECS, ids=codec_to_json)
@pytest.mark.parametrize("size", [*range(18), 63, 64, 65])
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_short_and_odd_lengths(codec, size, density):
    mask = random_mask(MaskSpec({"a": (size,)}), density, size)
    assert decode(codec, encode_mask(codec, mask, Uniform())[1], mask.spec, Uniform()) == mask


@pytest.mark.parametrize("codec", CODECS, ids=codec_to_json)
@settings(max_examples=30)
@given(data=st.data(), mask=masks(), prior=priors)
def test_changed_bytes_are_corrupt_or_harmless(codec, data, mask, prior):
    """A codec may decode foreign bytes to other bits (the record's CRC sees that), but raises nothing else."""
    _, coded = encode_mask(codec, mask, prior)
    index = data.draw(st.integers(0, len(coded) - 1))
    side, payload = (bytearray(part) for part in coded[index])
    part = data.draw(st.sampled_from([side, payload]))
    match data.draw(st.sampled_from(["flip", "cut", "grow"])):
        case "flip" if part:
            part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut" if part:
            del part[data.draw(st.integers(0, len(part) - 1)) :]
        case _:
            part += data.draw(st.binary(min_size=1, max_size=9))
    coded[index] = EncodedLayer(bytes(side), bytes(payload))
    try:
        found = decode(codec, coded, mask.spec, prior)
    except CorruptError:
        return
    assert found.spec == mask.spec


@given(st.data(), st.sampled_from([1, 4]), st.integers(0, 200))
def test_the_coder_equals_its_reference(data, lanes, size):
    p1 = data.draw(st.lists(st.integers(1, 65535), min_size=3, max_size=3))
    ids = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    bits = data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    expected = rans_reference.encode(ids, bits, p1, lanes)
    mask = Mask.from_dense({"a": np.array(bits, dtype=bool)})
    id_array, p1_array = np.array(ids, dtype=np.uint8), np.array(p1, dtype=np.uint32)
    coded = rans.coded_words(id_array, mask.words, p1_array, lanes, cost_bits=0.0)
    assert np.frombuffer(coded, "<u4").tolist() == expected
    assert rans_reference.decode(ids, p1, lanes, expected) == (bits, True)
    out = np.zeros_like(mask.words)
    assert rans.decode(id_array, p1_array, lanes, np.array(expected, dtype=np.uint32), out)
    assert out.tolist() == mask.words.tolist()


@given(st.lists(st.integers(0, tables.POINTS - 1), min_size=1, max_size=40))
def test_tables_round_trip(points):
    written = tables.write(np.array(points))
    assert tables.read(written, len(points)).tolist() == points
    with pytest.raises(CorruptError):
        tables.read(written + b"\0", len(points))


def test_point_probabilities_are_far_from_rounding_ties():
    """So that every correct implementation of exp gives the same integers; their hash is pinned."""
    exact = 65536 / (1 + np.exp(-(np.arange(tables.POINTS) - 88) / 8))
    assert np.min(np.abs(exact - np.floor(exact) - 0.5)) > 1e-6
    table = tables.point_probabilities()
    assert table.min() >= 1
    assert table.max() <= 65535
    digest = hashlib.blake2b(table.astype("<u4").tobytes(), digest_size=8).hexdigest()
    assert digest == "f153953bc41ea909"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5))
@example([(100_000, 100), (100, 100_000)])  # so far apart that no walk of short steps has both
def test_fit_finds_the_cheapest_walk(counts):
    """Against a search over all pairs of neighbours, entry by entry."""
    array = np.array(counts)
    walk, bits = tables.fit(array)
    costs = array @ -np.log2(np.stack([1 - tables.point_probabilities() / 65536, tables.point_probabilities() / 65536]))
    steps = np.abs(np.subtract.outer(np.arange(tables.POINTS), np.arange(tables.POINTS)))
    step_bits = 2 * np.array([int(n).bit_length() for n in range(tables.POINTS)])[steps] + 1
    best = costs[0] + 8
    for row in costs[1:]:
        best = (best[None, :] + step_bits).min(axis=1) + row
    assert bits == pytest.approx(best.min())
    paid = costs[range(len(walk)), walk].sum() + 8 + sum(step_bits[a, b] for a, b in pairwise(walk))
    assert bits == pytest.approx(paid)


@pytest.mark.parametrize("density", [0.5, 0.25, 0.1, 0.03, 0.005])
def test_ans_is_within_a_per_cent_of_the_entropy(density):
    mask = random_mask(MaskSpec({"a": (1 << 20,)}), density, 1)
    entropy = -(mask.density * np.log2(mask.density) + (1 - mask.density) * np.log2(1 - mask.density))
    assert 8 * size_of(encode_mask(Ans(), mask, Uniform())[1]) <= 1.01 * entropy * mask.spec.bits


def seeded_mask(spec: MaskSpec, prior: SeededScores, noise: float) -> Mask:
    """A mask like a trained one: the sign of its initial score, flipped where noise overcomes that score."""
    rng = np.random.default_rng(5)
    scores = [random_uniform(prior.seed, Role.SCORE, x.size, layer=i, stream=prior.task) for i, x in enumerate(spec)]
    return Mask.from_flat(np.concatenate([s + noise * rng.standard_normal(s.size) > 0 for s in scores]), spec)


def test_knowing_the_seed_saves_bits_and_a_wrong_seed_costs_almost_none():
    spec, prior = MaskSpec({"fc1": (300, 200), "fc2": (100, 300)}), SeededScores(seed=3, task=1)
    mask = seeded_mask(spec, prior, 0.2)
    right, wrong, none = (size_of(encode_mask(Ans(), mask, p)[1]) for p in (prior, SeededScores(3, 2), Uniform()))
    assert right < 0.35 * none
    assert wrong < 1.003 * none


GOLDEN_SPEC = MaskSpec({"fc1": (20, 33), "bias": (20,), "none": (0,), "fc2": (7, 3, 3)})
GOLDEN_PRIOR = SeededScores(seed=11, task=4)
GOLDEN_FILE = Path(__file__).parents[1] / "golden" / "codecs.json"


def golden_mask() -> Mask:
    """Made of integers alone, so that no platform's floats can change it."""
    prior, spec = GOLDEN_PRIOR, GOLDEN_SPEC
    ids = [prior.contexts(spec, i).ids.astype(np.int64) for i in range(len(spec))]
    return Mask.from_flat(
        np.concatenate([(c >> 1 & 1) ^ ((c >> 2) + 7 * np.arange(c.size) % 64 < 24) for c in ids]) == 1, spec
    )


@pytest.mark.parametrize("codec", CODECS, ids=codec_to_json)
def test_golden_bytes(codec):
    """Bytes that released versions wrote decode alike for ever; a codec that changes its format needs a new id."""
    layers = json.loads(GOLDEN_FILE.read_text())[codec_to_json(codec)]
    coded = [EncodedLayer(bytes.fromhex(side), bytes.fromhex(payload)) for side, payload in layers]
    assert decode(codec, coded, GOLDEN_SPEC, GOLDEN_PRIOR) == golden_mask()
    if not isinstance(codec, Zstd):  # what zstd writes, but not what it reads, changes between its releases
        assert encode_mask(codec, golden_mask(), GOLDEN_PRIOR) == (codec, coded)


@pytest.mark.parametrize("codec", [Ans(), Mix()], ids=codec_to_json)
def test_golden_bytes_with_walks_for_tables(codec):
    """The golden mask's own best tables are curves."""
    layers = json.loads(GOLDEN_FILE.read_text())[f"{codec.id}, walks"]
    coded = [EncodedLayer(bytes.fromhex(side), bytes.fromhex(payload)) for side, payload in layers]
    assert {piece.side[0] & 15 for piece in coded if piece.side} <= set(range(9))
    assert decode(codec, coded, GOLDEN_SPEC, GOLDEN_PRIOR) == golden_mask()


@given(st.data(), st.sampled_from([8, 16, 64]), st.sampled_from([2, 4]), st.sampled_from([14, 15]))
def test_curves_round_trip_and_are_straight_between_their_knots(data, levels, classes, form):
    known = Contexts(np.zeros(0, dtype=np.uint8), levels, classes)
    count = classes // 2 if form == tables.MIRRORED_CURVES else classes
    knots = np.array(data.draw(st.lists(st.integers(0, 176), min_size=3 * count, max_size=3 * count)))
    table = tables.Table(form, knots.reshape(count, 3))
    assert tables.read_table(form, table.write(), known).values.tolist() == table.values.tolist()
    by_class = table.points(known).reshape(levels, classes).T
    for curve, found in zip(table.values, by_class, strict=False):
        exact = np.interp(np.arange(levels), [0, levels / 2, levels], curve)
        assert np.abs(found - exact).max() <= 0.5
    if form == tables.MIRRORED_CURVES:
        assert (by_class[count:] == 176 - by_class[:count][::-1]).all()
    for wrong in (table.write() + b"\0", table.write()[:-1], b"\xb1" + table.write()[1:]):
        with pytest.raises(CorruptError, match="curves"):
            tables.read_table(form, wrong, known)


def test_curves_are_taken_where_log_odds_are_straight_and_walks_where_they_are_not():
    known = Contexts(np.zeros(0, dtype=np.uint8), 64, 2)
    level = np.arange(64)
    straight = np.stack([3 - level / 10, level / 10 - 3], axis=1).reshape(-1)
    jagged = np.where(np.arange(128) // 16 % 2, 4.0, -4.0)
    for odds, forms in ((straight, {tables.MIRRORED_CURVES}), (jagged, set(range(9)))):
        ones = np.rint(4000 / (1 + np.exp(-odds))).astype(np.int64)
        table, bits = tables.choose(np.stack([4000 - ones, ones], axis=1), known)
        assert table.form in forms
        p = tables.point_probabilities()[table.points(known)] / 65536
        mask_bits = -(ones * np.log2(p) + (4000 - ones) * np.log2(1 - p)).sum()
        assert bits == pytest.approx(mask_bits + 8 * len(table.write()), abs=8)


def test_every_codec_is_registered_under_its_id():
    def leaves(cls: type) -> set[type]:
        return {leaf for sub in cls.__subclasses__() for leaf in leaves(sub) or {sub}}

    found = {cls for cls in leaves(Codec) if cls.__module__.startswith("maskstore.")}
    assert {cls.id for cls in found} == set(codec_names()) - {"auto", "max"}
    assert all(type(get_codec(cls.id)) is cls for cls in found)


@pytest.mark.parametrize("codec", CODECS, ids=codec_to_json)
def test_configurations_round_trip(codec):
    assert codec_from_config(codec.to_config()) == codec


@given(priors)
def test_priors_round_trip(prior):
    assert prior_from_config(prior.to_config()) == prior


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"id": "lzma"}, UnknownCodecError),
        ({"id": "auto"}, UnknownCodecError),  # a choice is no codec: no mask is stored under it
        ({"id": "zstd", "level": 99}, CodecError),
        ({"id": "zstd", "level": True}, CodecError),
        ({"id": "raw", "level": 1}, CodecError),
        ({"level": 1}, CodecError),
        ([], CodecError),
    ],
)
def test_bad_codec_configurations_are_named(config, error):
    with pytest.raises(error):
        codec_from_config(config)


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"id": "psychic"}, UnknownPriorError),
        ({"id": "seeded-scores", "seed": -1, "task": 0}, CodecError),
        ({"id": "seeded-scores", "seed": 0.5, "task": 0}, CodecError),
        ({"id": "seeded-scores"}, CodecError),
        (None, CodecError),
    ],
)
def test_bad_prior_configurations_are_named(config, error):
    with pytest.raises(error):
        prior_from_config(config)


def test_a_zstd_bomb_is_refused_before_it_is_decompressed():
    import zstandard

    spec = MaskSpec({"a": (64,)})
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(CorruptError, match="expected 8 bytes of content, found 67108864"):
        Zstd().decode_layer(EncodedLayer(b"", bomb), spec.layers[0], lambda: Uniform().contexts(spec, 0))


def test_ans_refuses_more_bits_than_its_bytes_can_hold():
    spec = MaskSpec({"a": (1 << 33,)})
    with pytest.raises(CorruptError, match="8589934592 bits"):
        Ans().decode_layer(EncodedLayer(b"\0\0", bytes(8)), spec.layers[0], lambda: pytest.fail("contexts were built"))
