"""The choice among codecs is near the best of them, and its estimates near what is then written."""

import numpy as np
import pytest
from hypothesis import given, settings

from maskstore import Mask, MaskSpec
from maskstore.codecs import Ans, CodecChoice, Gap, Mix, Raw, Zstd, codec_names, encode_mask, get_codec, size_of
from maskstore.codecs.coders import gap_loop, rans
from maskstore.errors import CodecError, UnknownCodecError
from maskstore.priors import SeededScores, Uniform
from tests.helpers.masks import masks, priors, random_mask


def some_masks():
    spec = MaskSpec({"a": (200, 500), "b": (50, 200)})
    flat = np.random.default_rng(0)
    for density in (0.5, 0.2, 0.05, 0.01, 1e-3, 0.995, 0.0, 1.0):
        yield f"{density}", random_mask(spec, density, 3)
    yield "bursts", Mask.from_flat(np.repeat(flat.random(spec.bits // 10) < 0.01, 10), spec)
    yield "rows", Mask.from_flat(flat.random(spec.bits) < np.repeat(flat.random(spec.bits // 100) ** 4, 100), spec)
    yield "repeats", Mask.from_flat(np.tile(flat.random(1000) < 0.5, spec.bits // 1000), spec)


@pytest.mark.parametrize(("name", "mask"), list(some_masks()), ids=lambda x: x if isinstance(x, str) else "")
def test_the_choice_is_within_a_per_cent_of_the_best(name, mask):
    _, coded = encode_mask("auto", mask, Uniform())
    best = min(size_of(encode_mask(codec, mask, Uniform())[1]) for codec in (Raw(), Zstd(), Gap(), Ans()))
    assert size_of(coded) <= 1.01 * best + 8


@settings(max_examples=25)
@given(masks(), priors)
def test_the_choice_at_level_max_is_never_larger_than_mix(mask, prior):
    _, coded = encode_mask("max", mask, prior)
    assert size_of(coded) <= size_of(encode_mask(Mix(), mask, prior)[1])


def test_levels_have_names():
    assert get_codec("max") == CodecChoice("max")
    assert get_codec("auto") == CodecChoice()
    assert {"auto", "max"} < set(codec_names())
    with pytest.raises(CodecError, match="fast or max"):
        CodecChoice("best")
    with pytest.raises(UnknownCodecError, match="auto, max"):
        get_codec("best")


@given(masks(), priors)
def test_auto_is_never_larger_than_any_codec_it_may_choose(mask, prior):
    codec, coded = encode_mask("auto", mask, prior)
    words = [
        codec.decode_layer(piece, layer, lambda i=i: prior.contexts(mask.spec, i))
        for i, (piece, layer) in enumerate(zip(coded, mask.spec, strict=True))
    ]
    assert Mask(mask.spec, np.concatenate([np.zeros(0, np.uint64), *words])) == mask
    assert size_of(coded) <= min(size_of(encode_mask(c, mask, prior)[1]) for c in (Raw(), Ans()))


def test_auto_finds_repetition():
    repeated = np.tile(np.random.default_rng(0).random(777) < 0.5, (200, 1))
    for shape, expected in (((200, 777), "pattern"), ((200 * 777,), "zstd")):
        mask = Mask.from_dense({"a": repeated.reshape(-1)[: np.prod(shape)].reshape(shape)})
        codec, coded = encode_mask("auto", mask, Uniform())
        assert codec.id == expected
        assert size_of(coded) < 0.05 * mask.nbytes


@pytest.mark.parametrize("run", [5, 16, 37, 100, 300])
@pytest.mark.parametrize("density", [0.1, 0.5])
def test_auto_finds_runs_of_equal_bits(run, density):
    bits = np.random.default_rng(run).random(400_000 // run + 1) < density
    mask = Mask.from_dense({"a": np.repeat(bits, run)[:400_000].reshape(400, 1000)})
    best = min(size_of(encode_mask(codec, mask, Uniform())[1]) for codec in (Raw(), Zstd(), Gap(), Ans()))
    assert size_of(encode_mask("auto", mask, Uniform())[1]) <= 1.01 * best


def test_independent_bits_without_a_prior_are_coded_eight_at_a_time():
    spec = MaskSpec({"fc1": (300, 784), "fc2": (100, 300)})
    mask = random_mask(spec, 0.3, 0)
    codec, coded = encode_mask("auto", mask, Uniform())
    assert codec.id == "pattern"
    assert size_of(coded) <= size_of(encode_mask(Ans(), mask, Uniform())[1]) + 5 * len(spec)
    assert encode_mask("auto", mask, SeededScores(0, 0))[0].id == "ans"


def test_estimates_are_near_what_is_then_written():
    for _, mask in some_masks():
        for layer in mask.spec:
            words = mask.words[layer.packed]
            known = Uniform().contexts(mask.spec, mask.spec.index(layer.name))
            for codec, plan in ((Gap(), gap_loop.plan(words, layer.size)), (Ans(), rans.plan(words, known))):
                coded = plan.encode()
                assert coded == codec.encode_layer(words, layer, lambda known=known: known)
                assert abs(plan.bits - 8 * size_of([coded])) <= 0.02 * plan.bits + 64
