"""One mask as bytes: what was sent comes back, and bytes of strangers are a named error."""

import hashlib
import os
import tracemalloc
from contextlib import suppress
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstore import (
    Backbone,
    Expected,
    KeptWeights,
    Mask,
    MaskBank,
    MaskSpec,
    Reference,
    RunningMean,
    SeededScores,
    SignedMask,
    decode_mask,
    decode_signed_mask,
    encode_mask,
)
from maskstore.errors import (
    ArgumentTypeError,
    BackboneError,
    CodecError,
    CorruptError,
    FormatVersionError,
    LayerNotFoundError,
    LimitError,
    MaskStoreError,
    MaskValueError,
    SpecError,
    TaskNotFoundError,
    UnknownCodecError,
    UnknownPriorError,
)
from maskstore.files import write_leb128
from tests.helpers.masks import masks, priors, random_mask, signed_masks, specs

SPEC = MaskSpec({"fc1": (30, 41), "fc2": (7, 30)})
MASK = random_mask(SPEC, 0.2, 0)
CODECS = st.sampled_from(["auto", "raw", "ans", "gap", "zstd", "mix"])


def expected(spec=SPEC, seed=0):
    rng = np.random.default_rng(seed)
    return {layer.name: rng.beta(0.5, 1, layer.shape) for layer in spec}


@settings(max_examples=40)
@given(st.data(), specs())
def test_any_mask_comes_back(data, spec):
    known = data.draw(st.none() | priors | st.just(Expected(expected(spec))))
    mask, codec = data.draw(masks(spec)), data.draw(CODECS)
    sent = encode_mask(mask, prior=known, codec=codec)
    given = known if isinstance(known, Expected) else None
    assert decode_mask(sent, spec, prior=given) == mask
    assert decode_mask(memoryview(bytearray(sent)), spec, prior=given) == mask
    with pytest.raises(TaskNotFoundError, match="found one without signs"):
        decode_signed_mask(sent, spec, prior=given)


@settings(max_examples=30)
@given(st.data(), specs())
def test_any_signed_mask_comes_back(data, spec):
    known = data.draw(st.none() | priors | st.just(Expected(expected(spec))))
    signed, codec = data.draw(signed_masks(spec)), data.draw(CODECS)
    sent = encode_mask(signed, prior=known, codec=codec)
    given = known if isinstance(known, Expected) else None
    assert decode_signed_mask(sent, spec, prior=given) == signed
    assert decode_mask(sent, spec, prior=given) == signed.mask


def test_the_bytes_are_those_of_the_page():
    sent = encode_mask({"a": [[1, 0, 1], [1, 1, 0]]}, codec="raw")
    spec = b'[["a",[2,3]]]'
    start = b"MSKM\x01" + hashlib.blake2b(spec, digest_size=16).digest()[:8]
    texts = b'\x0c{"id":"raw"}\x10{"id":"uniform"}\x00'
    data = b"\x00\x01" + crc32(bytes([0b011101])).to_bytes(4, "little") + bytes([0b011101])
    whole = start + texts + data
    assert sent == whole + hashlib.blake2b(whole, digest_size=8).digest()


def test_levels_are_those_of_the_page():
    points = np.rint(65536 / (1 + np.exp(-(np.arange(177) - 88) / 8)))[::2]
    values = np.concatenate([[0, 1, 0.5], points / 65536, np.nextafter(points / 65536, 0)])
    found = Expected({"a": values}).contexts(MaskSpec({"a": values.shape}), 0)
    assert found.ids.tolist() == [sum(point / 65536 <= value for point in points) for value in values]
    assert found.ids[:3].tolist() == [0, 89, 45]
    assert (found.levels, found.classes) == (128, 1)
    digest = hashlib.blake2b(found.ids.tobytes(), digest_size=8).hexdigest()
    assert Expected({"a": values}).digest == digest


def test_what_both_expect_saves_bits():
    spec = MaskSpec({"fc1": (300, 784)})
    mean = {"fc1": np.random.default_rng(0).beta(0.4, 0.6, (300, 784)).astype(np.float32)}
    drawn = {"fc1": np.random.default_rng(1).random((300, 784)) < mean["fc1"]}
    p = np.clip(mean["fc1"].astype(float), 1e-12, 1 - 1e-12)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum()
    sent = encode_mask(drawn, prior=Expected(mean))
    assert entropy < 8 * len(sent) < 1.01 * entropy + 8 * 100
    assert 8 * len(encode_mask(drawn)) > 1.5 * entropy
    near = {"fc1": np.minimum(mean["fc1"].astype(np.float64) * (1 + 1e-15), 1)}  # equal to a level
    assert decode_mask(sent, spec, prior=Expected(near)) == Mask.from_dense(drawn)


def test_a_mask_can_be_what_is_expected():
    other = MASK ^ random_mask(SPEC, 0.01, 1)
    sent = encode_mask(MASK, prior=Expected(other))
    assert decode_mask(sent, SPEC, prior=Expected(other.dense())) == MASK
    assert len(sent) < len(encode_mask(MASK)) / 1.5


def test_another_expectation_is_an_error_and_not_another_mask():
    sent = encode_mask(MASK, prior=Expected(expected()))
    other = MaskSpec({"fc1": (30, 41)})
    for prior, error, match in [
        (None, CodecError, "expected `prior=Expected"),
        (SeededScores(0, 0), CodecError, "expected `prior=Expected"),
        (Expected(expected(seed=1)), CodecError, "the probabilities under which it was coded"),
        (Expected(expected(other)), SpecError, "expected those of"),
    ]:
        with pytest.raises(error, match=match):
            decode_mask(sent, SPEC, prior=prior)
    plain = encode_mask(MASK, prior=SeededScores(3, 1))
    assert decode_mask(plain, SPEC, prior=Expected(expected())) == MASK  # it was not needed


def test_what_cannot_be_sent():
    for call, error, match in [
        (lambda: encode_mask(3), SpecError, "dict of layer name"),
        (lambda: encode_mask({"a": [2]}), MaskValueError, "0 and 1"),
        (lambda: encode_mask(MASK, prior="uniform"), CodecError, "prior of a message"),
        (lambda: encode_mask(MASK, prior=Reference("a")), CodecError, "prior of a message"),
        (lambda: encode_mask(MASK, prior=RunningMean(("a", "b"))), CodecError, "prior of a message"),
        (lambda: encode_mask(MASK, codec="zip"), UnknownCodecError, "'zip'"),
        (lambda: encode_mask(MASK, prior=Expected({"a": [0.5]})), SpecError, "expected those of"),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_what_cannot_be_expected():
    for call, error, match in [
        (lambda: Expected(3), SpecError, "dict of layer name"),
        (lambda: Expected({"a": [1.5]}), MaskValueError, "found 1.5"),
        (lambda: Expected({"a": np.array([1.5])}), MaskValueError, "found 1.5"),
        (lambda: Expected({"a": np.array([np.nan])}), MaskValueError, "found nan"),
        (lambda: Expected({"a": np.array(["x"])}), MaskValueError, "found dtype"),
        (lambda: Expected({"fc1": np.zeros((30, 41))}, SPEC), SpecError, "'fc2'.*no such layer"),
        (lambda: Expected({"a": np.zeros(3)}, MaskSpec({"a": (4,)})), SpecError, "found shape"),
        (lambda: Expected({"b": np.zeros(4)}, MaskSpec({"a": (4,)})), LayerNotFoundError, "'b'"),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_a_bank_does_not_take_what_it_cannot_hold(tmp_path):
    with MaskBank.create(tmp_path / "a.bank", SPEC) as bank:
        with pytest.raises(CodecError, match="one that a bank can hold"):
            bank.put("t", MASK, prior=Expected(expected()))
        assert len(bank) == 0


def test_every_changed_bit_and_every_cut_is_an_error():
    for sent in (encode_mask(MASK), encode_mask(SignedMask(MASK, MASK & random_mask(SPEC, 0.5, 2)))):
        for place in range(len(sent)):
            wrong = bytearray(sent)
            wrong[place] ^= 1 << place % 8
            with pytest.raises((CorruptError, FormatVersionError)):
                decode_mask(bytes(wrong), SPEC)
            with pytest.raises(CorruptError):
                decode_mask(sent[:place], SPEC)
        with pytest.raises(CorruptError):
            decode_mask(sent + b"\0", SPEC)


def signed_by_hand(whole):
    return whole + hashlib.blake2b(whole, digest_size=8).digest()


def forged(codec=b'{"id":"raw"}', prior=b'{"id":"uniform"}', extras=b"", data=b"", version=1, spec=SPEC):
    texts = b"".join(write_leb128(len(text)) + text for text in (codec, prior, extras))
    return signed_by_hand(b"MSKM" + bytes([version]) + bytes.fromhex(spec.fingerprint)[:8] + texts + data)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (forged(version=2), FormatVersionError),
        (forged(version=0), FormatVersionError),
        (forged(spec=MaskSpec({"a": (1,)})), SpecError),
        (forged(codec=b'{"id":"zip"}', data=bytes(12)), UnknownCodecError),
        (forged(codec=b"\xff"), CorruptError),
        (forged(codec=b"{", data=bytes(12)), CorruptError),
        (forged(prior=b"[]"), CorruptError),
        (forged(prior=b'{"id":"psychic"}'), UnknownPriorError),
        (forged(prior=b'{"id":"reference","given":{"id":"uniform"}}'), CorruptError),
        (forged(prior=b'{"id":"expected"}'), CodecError),
        (forged(prior=b'{"id":"expected","digest":[' + b"1," * 999 + b"1]}"), CodecError),
        (forged(data=b"\xff" * 9 + b"\x7f"), CorruptError),
        (forged(data=bytes(12)), CorruptError),
        (signed_by_hand(b"MSKM\x01" + bytes(8)), SpecError),
        (b"", CorruptError),
        (b"MSKM" * 9, FormatVersionError),
        ("MSKM", SpecError),
    ],
)
def test_a_forged_message_is_a_named_error(sent, error):
    with pytest.raises(error, match="expected"):
        decode_mask(sent, SPEC)


def test_mutants_with_a_checksum_that_fits_cost_little():
    """A stranger can compute checksums: only named errors or a mask, in the memory that the spec says."""
    rng = np.random.default_rng(0)
    base = [encode_mask(MASK, codec=codec)[:-8] for codec in ("raw", "ans", "gap", "zstd", "mix")]
    base.append(encode_mask(SignedMask(MASK, MASK))[:-8])
    assert all(decode_mask(signed_by_hand(sent), SPEC) == MASK for sent in base)  # compiled before memory is counted
    tracemalloc.start()
    for turn in range(int(os.environ.get("MASKSTORE_TEST_MUTATIONS", "600"))):
        wrong = bytearray(base[turn % len(base)])
        for _ in range(rng.integers(1, 4)):
            wrong[rng.integers(13, len(wrong))] = rng.integers(256)
        wrong = wrong[: rng.integers(20, len(wrong) + 1)] if turn % 3 == 0 else wrong
        for decode in (decode_mask, decode_signed_mask):
            with suppress(MaskStoreError):
                decode(signed_by_hand(bytes(wrong)), SPEC)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_few_bytes_do_not_ask_for_much():
    spec = MaskSpec({"a": (1 << 20,)})
    sent = encode_mask({"a": np.zeros(1 << 20, dtype=bool)}, codec="mix")
    with pytest.raises(LimitError):
        decode_mask(sent, spec, limit=1 << 20)
    with pytest.raises(SpecError, match="a spec such as"):
        decode_mask(sent, {"a": (1 << 20,)})


def test_repr_says_what_is_expected():
    assert repr(Expected(expected())) == "Expected(2 layers, 1440 probabilities)"


@pytest.mark.filterwarnings("ignore")  # of its own dependencies
def test_a_message_travels_in_flower():
    """As docs/federated.md says: in the records of Flower's messages."""
    flower = pytest.importorskip("flwr.common")
    sent = flower.RecordDict({"mask": flower.ConfigRecord({"bytes": encode_mask(MASK)})})
    assert decode_mask(sent["mask"]["bytes"], SPEC) == MASK


def test_large_masks_are_in_blocks():
    rng = np.random.default_rng(0)
    mean = {"a": rng.random((2100, 2000)).astype(np.float32) ** 6}
    drawn = {"a": rng.random((2100, 2000)) < mean["a"]}
    spec, known = MaskSpec.of(mean), Expected(mean)
    sent = encode_mask(drawn, prior=known)
    assert b'"blocks"' in sent[:40]
    assert decode_mask(sent, spec, prior=known) == Mask.from_dense(drawn)
    assert len(sent) < 0.75 * len(encode_mask(drawn))


def test_a_mask_on_kept_weights_is_read_with_the_weights_alone():
    weights = {layer.name: np.random.default_rng(1).normal(size=layer.shape).astype("f4") for layer in SPEC}
    backbone, other = Backbone(weights), Backbone({name: 2 * each for name, each in weights.items()})
    kept = {name: abs(each) > 0.2 for name, each in weights.items()}
    sent = encode_mask(kept, prior=KeptWeights(backbone))
    assert len(sent) < len(encode_mask(kept))
    assert decode_mask(sent, SPEC, backbone=backbone) == Mask.from_dense(kept)
    signed = SignedMask.from_dense({name: each.astype("i1") for name, each in kept.items()})
    sent_signed = encode_mask(signed, prior=KeptWeights(backbone))
    assert decode_signed_mask(sent_signed, SPEC, backbone=backbone) == signed
    for wrong, found in ((None, "none"), (other, other.fingerprint)):
        with pytest.raises(BackboneError, match=f"expected the weights it was coded against.*found {found}"):
            decode_mask(sent, SPEC, backbone=wrong)
    with pytest.raises(ArgumentTypeError, match="backbone: expected a Backbone"):
        decode_mask(sent, SPEC, backbone=weights)
