"""Signed masks in a bank: signs at kept places only, given what is known of them, and scales beside them."""

from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstore import Mask, MaskBank, MaskSpec, Reference, RunningMean, SeededScores, SignedMask, account, compact
from maskstore.bank import coding
from maskstore.bank.coding import sealed
from maskstore.bank.extras import encode_extras
from maskstore.bank.maintenance import Maintenance
from maskstore.bank.record import SCALES, SIGNS
from maskstore.errors import (
    CodecError,
    CorruptError,
    LimitError,
    MaskStoreError,
    MaskValueError,
    SpecError,
    TaskNotFoundError,
    UnknownCodecError,
)
from maskstore.interop import ShardReader, merge, read_masks, store, write_npz, write_safetensors, write_shard
from maskstore.philox import Role, random_packed_bits
from tests.helpers.masks import priors, random_mask, signed_masks, specs

SPEC = MaskSpec({"fc1": (40, 50), "fc2": (10, 7), "none": (0, 3)})


def random_signed(spec=SPEC, density=0.3, seed=0, scale="row"):
    rng = np.random.default_rng(seed)
    values = {layer.name: rng.standard_normal(layer.shape) for layer in spec}
    return SignedMask.from_deltas(values, spec, density=density, scale=scale)


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "tasks.bank", SPEC) as opened:
        yield opened


@settings(max_examples=15)
@given(st.data(), specs())
def test_any_signed_mask_comes_back(tmp_path_factory, data, spec):
    signed, known = data.draw(signed_masks(spec)), data.draw(st.none() | priors)
    codec = data.draw(st.sampled_from(["auto", "raw", "ans", "gap", "zstd", "mix"]))
    with MaskBank.create(tmp_path_factory.mktemp("signed") / "a.bank", spec) as bank:
        bank.put_signed("t", signed, codec=codec, sign_prior=known, meta={"a": 1}, extras={"mean": [1.0]})
        assert bank.signed("t") == signed
        assert bank["t"] == signed.mask
        assert bank.extras("t")["mean"] == 1.0
        assert bank.task_meta("t") == {"a": 1}
        assert bank.verify() == 1


def test_a_program_that_knows_no_signs_reads_the_mask(bank):
    bank.put_signed("t", signed := random_signed())
    assert bank["t"] == signed.mask
    assert list(bank.extras("t")) == [SIGNS, SCALES]
    bank.put("plain", signed.mask)
    assert bank.sign_bytes("plain") == 0
    with pytest.raises(TaskNotFoundError, match="expected a signed mask, found one without signs"):
        bank.signed("plain")
    with pytest.raises(TaskNotFoundError, match="expected one of 2 tasks"):
        bank.signed("other")


def test_signs_cost_a_bit_for_each_weight_that_is_kept(tmp_path):
    spec = MaskSpec({"a": (1000, 400)})
    rng = np.random.default_rng(0)
    values = np.where(rng.random((1000, 400)) < 0.05, rng.choice([-1, 1], (1000, 400)), 0)
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put_signed("t", SignedMask.from_dense({"a": values}))
        info = bank.info("t")
    kept = np.count_nonzero(values) / values.size
    entropy = -kept * np.log2(kept) - (1 - kept) * np.log2(1 - kept) + kept
    assert 8 * (info.coded_bytes + info.extras_bytes) <= 1.01 * entropy * values.size + 8 * 64


def test_signs_of_the_frozen_weights_make_signs_cheap(tmp_path):
    spec = MaskSpec({"a": (300, 400), "b": (100, 300)})
    mask, noise = random_mask(spec, 0.2, 0), random_mask(spec, 0.05, 1)
    words = np.concatenate(
        [random_packed_bits(7, Role.WEIGHT_SIGN, layer.size, layer=i) for i, layer in enumerate(spec)]
    )
    signed = SignedMask(mask, (~Mask(spec, words) ^ noise) & mask)
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put_signed("without", signed)
        bank.put_signed("with", signed, sign_prior=SeededScores(7, 0))
        bank.put_signed("of the mask", signed, prior=SeededScores(7, 0))
        bank.put_signed("relative", signed.relative_to(~Mask(spec, words)))
        sizes = {name: bank.sign_bytes(name) for name in bank}
        assert all(bank.signed(name) == signed for name in list(bank)[:3])
    assert sizes["with"] == sizes["of the mask"]
    for name in ("with", "relative"):
        assert sizes[name] < 0.35 * sizes["without"]  # H(0.05) = 0.29 bits a sign


def test_signs_stay_when_a_bank_is_compacted_merged_exported_or_sharded(tmp_path):
    a, b = random_signed(), random_signed(seed=1, scale="layer")
    near = SignedMask(a.mask ^ random_mask(SPEC, 0.02, 5), Mask.from_flat(np.zeros(SPEC.bits, bool), SPEC))
    wanted = {"a": a, "b": b, "near": near}
    path = tmp_path / "a.bank"
    with MaskBank.create(path, SPEC) as bank:
        for name, signed in wanted.items():
            bank.put_signed(name, signed, codec="raw", extras={"mean": [1.0]})
        bank.put_signed("refers", near, prior=Reference("a"))
        write_safetensors(bank, tmp_path / "a.safetensors")
        write_npz(bank, tmp_path / "a.npz")
        write_shard(bank, tmp_path / "a.shard")
    compact(path)
    merge([tmp_path / "a.shard"], tmp_path / "merged.bank")
    for kind in ("npz", "safetensors"):
        store(read_masks(tmp_path / f"a.{kind}"), tmp_path / f"{kind}.bank")
    with ShardReader(tmp_path / "a.shard") as shard:
        assert {name: shard.signed(name) for name in wanted} == wanted
        assert shard.sign_bytes("a") > 20
    for name in ("a.bank", "merged.bank", "npz.bank", "safetensors.bank"):
        with MaskBank.open(tmp_path / name) as bank:
            assert {name: bank.signed(name) for name in wanted} == wanted
            assert bank.signed("refers") == near
            assert bank.verify() == 4


def test_the_account_knows_signs_and_scales(bank):
    bank.put_signed("t", random_signed())
    bank.put("plain", random_signed().mask)
    bank.close()
    with MaskBank.open(bank.path) as opened:
        found, size = account(opened), opened.sign_bytes("t")
    assert (found.signed, found.sign_bytes, found.scale_bytes) == (1, size, 4 * 50)
    assert found.side_bytes > found.sign_bytes + found.scale_bytes
    assert found.total_bytes == sum(
        (found.payload_bytes, found.side_bytes, found.index_bytes, found.slack_bytes, found.log_bytes)
    )


def test_what_cannot_be_put_leaves_no_trace(bank):
    signed = random_signed()
    other = random_signed(MaskSpec({"fc1": (2, 2)}))
    for call, error, match in [
        (lambda: bank.put_signed("t", signed.mask), SpecError, "expected a SignedMask, found Mask"),
        (lambda: bank.put_signed("t", other), SpecError, "expected the bank's spec"),
        (lambda: bank.put_signed("t", signed, sign_prior="uniform"), CodecError, "prior: expected one such as"),
        (lambda: bank.put_signed("t", signed, prior="uniform"), CodecError, "prior: expected one such as"),
        (lambda: bank.put_signed("t", signed, codec="zip"), UnknownCodecError, "'zip'"),
        (lambda: bank.put_signed("t", signed, extras={SIGNS: [1]}), MaskValueError, "a name that signed masks do not"),
        (lambda: bank.put_signed("t", signed, extras=3), MaskValueError, "expected a dict of name to array, found int"),
        (lambda: bank.put_signed("t", signed, prior=Reference("no")), TaskNotFoundError, "'no'"),
    ]:
        with pytest.raises(error, match=match):
            call()
    assert len(bank) == 0


def test_masks_that_the_prior_refers_to_do_not_count_for_the_signs(bank):
    for i in range(3):
        bank.put_signed(f"t{i}", random_signed(seed=i))
    known = RunningMean(("t0", "t1", "t2"), given=SeededScores(0, 0))
    bank.put_signed("t3", signed := random_signed(seed=3), prior=known)
    for i in range(3):
        bank.delete(f"t{i}")
    assert bank.signed("t3") == signed


def test_the_bytes_of_signs_are_those_of_the_page(bank):
    values = {"fc1": np.zeros((40, 50), int), "fc2": np.zeros((10, 7), int), "none": np.zeros((0, 3), int)}
    values["fc1"][0, :12] = [1, -1, 1, 1, -1, -1, 1, -1, 1, 1, 1, -1]
    values["fc2"][3, 2] = -1
    bank.put_signed("t", SignedMask.from_dense(values, scales=dict.fromkeys(values, 0.5)), codec="raw")
    extras = bank.extras("t")
    texts = b'\x0c{"id":"raw"}\x10{"id":"uniform"}'
    coded = [bytes([0b10110010, 0b1000]), bytes([1]), b""]
    table = b"".join(bytes([0, len(part)]) + crc32(part).to_bytes(4, "little") for part in coded)
    assert extras[SIGNS].tobytes() == b"\x01" + texts + table + b"".join(coded)
    assert np.array_equal(extras[SCALES], np.float32([0.5, 0.5, 0.5]))


def _forge(bank, change):
    """Change the extra arrays of mask `t` under a checksum that fits."""
    keeper, row = Maintenance(bank), bank.record("t")
    extras = dict(bank.extras("t"))
    change(extras)
    with bank.transaction():
        bank.delete("t")
        keeper.put_record(sealed(replace(row, extras=encode_extras(extras)), row.id), overwrite=False)


def _set(key, value):
    return lambda extras: extras.update({key: value})


def _signs(texts=b'\x0d{"id":"zstd"}\x10{"id":"uniform"}', rest=b"", version=1):
    return _set(SIGNS, np.frombuffer(bytes([version]) + texts + rest, np.uint8))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_set(SIGNS, np.zeros(3, np.float32)), CorruptError),
        (_set(SIGNS, np.zeros((1, 3), np.uint8)), CorruptError),
        (_set(SIGNS, np.zeros(1, np.uint8)), CorruptError),
        (_signs(version=2), CorruptError),
        (_signs(b"\xff\xff"), CorruptError),
        (_signs(rest=bytes(99)), CorruptError),
        (_signs(b'\x0c{"id":"raw"}\x22{"id":"reference","given":{"id":"uniform"}}'[:60]), CorruptError),
        (_signs(b'\x0c{"id":"zip"}\x10{"id":"uniform"}', bytes(18)), UnknownCodecError),
        (_set(SCALES, np.zeros(4, np.float32)), CorruptError),
        (_set(SCALES, np.zeros(3, np.float64)), CorruptError),
        (_set(SCALES, np.full(3, np.nan, np.float32)), CorruptError),
        (_set(SCALES, np.zeros((1, 49), np.float32)), CorruptError),
    ],
)
def test_forged_signs_are_a_named_error(bank, change, error):
    bank.put_signed("t", signed := random_signed())
    _forge(bank, change)
    with pytest.raises(error):
        bank.signed("t")
    with pytest.raises(MaskStoreError):
        bank.verify()
    assert bank["t"] == signed.mask
    bank.delete("t")


def test_every_changed_byte_of_signs_is_found(bank):
    bank.put_signed("t", random_signed(density=0.05), codec="ans")
    signs = bank.extras("t")[SIGNS]
    for place in range(signs.size):
        wrong = signs.copy()
        wrong[place] ^= 1 << place % 8
        _forge(bank, _set(SIGNS, wrong))
        with pytest.raises(MaskStoreError):
            bank.signed("t")


def test_signs_count_for_the_limit(tmp_path):
    spec = MaskSpec({"a": (1 << 16,)})
    ones = Mask.from_flat(np.ones(spec.bits, bool), spec)
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put_signed("t", SignedMask(ones, ones), codec="mix")
    with MaskBank.open(tmp_path / "a.bank", limit=1 << 20) as bank, pytest.raises(LimitError):
        bank.signed("t")


def test_signs_of_large_masks_are_in_blocks(tmp_path, monkeypatch):
    """Both the mask and its signs; the contexts of a block of signs are those of its weights."""
    monkeypatch.setattr(coding, "BLOCKED_BITS", 1 << 12)
    spec = MaskSpec({"a": (400, 500), "b": (3, 7)})
    signs = [random_packed_bits(7, Role.WEIGHT_SIGN, layer.size, layer=i) for i, layer in enumerate(spec)]
    mask = random_mask(spec, 0.7, 0)
    signed = SignedMask(mask, (~Mask(spec, np.concatenate(signs)) ^ random_mask(spec, 0.02, 1)) & mask)
    with MaskBank.create(tmp_path / "a.bank", spec) as bank:
        bank.put_signed("t", signed, sign_prior=SeededScores(7, 0))
        assert b'"blocks"' in bank.extras("t")[SIGNS].tobytes()
        assert bank.signed("t") == signed
        assert 8 * bank.sign_bytes("t") < 0.2 * mask.ones
        assert bank.verify() == 1
