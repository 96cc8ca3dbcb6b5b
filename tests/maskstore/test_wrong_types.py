"""Arguments of another type than the one that was meant: each is one line that says which type."""

import os

import numpy as np
import pytest

from maskstore import (
    Expected,
    Mask,
    MaskBank,
    MaskMatrix,
    MaskSpec,
    SeededScores,
    SignedMask,
    Uniform,
    account,
    compact,
    decode_mask,
    encode_mask,
    open_source,
)
from maskstore.errors import (
    ArgumentTypeError,
    CodecError,
    ImportOptionError,
    LayerNotFoundError,
    MaskStoreError,
    MaskValueError,
    SpecError,
    TaskNotFoundError,
    UnknownCodecError,
)
from maskstore.interop import (
    ReadOptions,
    ShardReader,
    diff_banks,
    merge,
    read_masks,
    store,
    write_npz,
    write_safetensors,
    write_shard,
)

MASKS = {"fc1": np.eye(4, dtype=bool)}


@pytest.fixture
def bank(tmp_path):
    with MaskBank.create(tmp_path / "tasks.bank", MaskSpec.of(MASKS)) as opened:
        yield opened


@pytest.mark.parametrize("wrong", [None, 1, "x", [1, 2], np.eye(4)])
def test_masks_are_a_dict(bank, wrong):
    for call in (lambda: bank.put("t", wrong), lambda: Mask.from_dense(wrong), lambda: MaskSpec.of(wrong)):
        with pytest.raises(SpecError, match=f"expected .*dict of layer name.*found {type(wrong).__name__}"):
            call()


@pytest.mark.parametrize("wrong", [1, "x", [1]])
def test_metadata_and_extras_are_dicts(bank, wrong):
    for name in ("meta", "extras"):
        with pytest.raises(MaskValueError, match=f"expected a dict.*found {type(wrong).__name__}"):
            bank.put("t", MASKS, **{name: wrong})
    assert len(bank) == 0


@pytest.mark.parametrize("meta", [{1: "a", "1": "b"}, {"a": {None: 1, "null": 2}}, {True: 1, "true": 2}])
def test_keys_that_json_writes_alike_are_refused(bank, meta):
    with pytest.raises(MaskValueError, match="keys that differ as text"):
        bank.put("t", MASKS, meta=meta)


@pytest.mark.parametrize("wrong", [1, "uniform", Uniform, {"id": "uniform"}])
def test_a_prior_is_one(bank, wrong):
    with pytest.raises(CodecError, match="prior: expected one such as"):
        bank.put("t", MASKS, prior=wrong)


@pytest.mark.parametrize("wrong", [None, 1, {"id": "raw"}, ["raw"]])
def test_a_codec_is_a_name_or_a_codec(bank, wrong):
    with pytest.raises(UnknownCodecError, match="expected one of"):
        bank.put("t", MASKS, codec=wrong)


@pytest.mark.parametrize("wrong", [None, {"fc1": (4, 4)}, MASKS])
def test_a_bank_is_created_with_a_spec(tmp_path, wrong):
    with pytest.raises(SpecError, match=r"expected a spec such as MaskSpec\.of"):
        MaskBank.create(tmp_path / "new.bank", wrong)
    assert not (tmp_path / "new.bank").exists()


@pytest.mark.parametrize("wrong", [1, [("fc1", (4, 4))], {"fc1": None}, {"fc1": 3}])
def test_shapes_are_a_dict_of_shapes(wrong):
    with pytest.raises(SpecError, match="expected a "):
        MaskSpec(wrong)


def test_what_is_no_array_has_no_shape():
    with pytest.raises(SpecError, match="layer 'fc1': expected an array, found NoneType"):
        MaskSpec.of({"fc1": None})


@pytest.mark.parametrize("wrong", [1, None, MASKS])
def test_a_mask_is_compared_with_a_mask(wrong):
    with pytest.raises(SpecError, match="expected another Mask"):
        Mask.from_dense(MASKS).hamming(wrong)


@pytest.mark.parametrize("wrong", [1, None, [], {}])
def test_what_cannot_be_a_layer_is_in_no_mask(wrong):
    mask = Mask.from_dense(MASKS)
    assert wrong not in mask
    with pytest.raises(LayerNotFoundError, match="expected one of fc1"):
        mask[wrong]


def test_one_name_is_no_list_of_names(bank):
    bank.put("t", MASKS)
    assert list(bank.matrix(["t"]).names) == ["t"]
    with pytest.raises(TaskNotFoundError, match=r"expected a list of names.*give \['t'\]"):
        bank.matrix("t")


def test_arrays_of_which_some_values_do_not_count_are_refused(bank):
    values = np.ma.masked_equal(np.arange(16).reshape(4, 4) % 2, 1)
    for call in (lambda: bank.put("t", {"fc1": values}), lambda: bank.put("t", MASKS, extras={"scale": values})):
        with pytest.raises(MaskValueError, match=r"numpy\.ma, of which some values do not count"):
            call()
    assert len(bank) == 0


PATHS = {
    "open": MaskBank.open,
    "create": lambda path: MaskBank.create(path, MaskSpec.of(MASKS)),
    "compact": compact,
    "open_source": open_source,
    "ShardReader": ShardReader,
    "read_masks": read_masks,
    "merge": lambda path: merge([path], "b.bank"),
    "into": lambda path: merge(["a.bank"], path),
}


@pytest.mark.parametrize("wrong", [None, 3, True, b"a.bank", ["a.bank"], object])
@pytest.mark.parametrize("call", PATHS)
def test_a_path_is_one(call, wrong):
    with pytest.raises(ArgumentTypeError, match="expected a path, found"):
        PATHS[call](wrong)


@pytest.mark.parametrize("write", [write_npz, write_safetensors, write_shard])
def test_files_are_written_to_paths_from_sources(bank, write, tmp_path):
    for wrong in (None, 3, b"out"):
        with pytest.raises(ArgumentTypeError, match="path: expected a path, found"):
            write(bank, wrong)
    for wrong in (None, "tasks.bank", bank.path, MASKS):
        with pytest.raises(ArgumentTypeError, match="source: expected an open bank or shard, found"):
            write(wrong, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


@pytest.mark.parametrize("wrong", ["a\0b", "\0", "half \ud800"])
@pytest.mark.parametrize("call", PATHS)
def test_text_that_no_file_can_be_called(call, wrong):
    with pytest.raises(SpecError, match="expected text that a file can be called, found"):
        PATHS[call](wrong)


def test_functions_take_open_banks(bank):
    for wrong in (None, "tasks.bank", MASKS):
        with pytest.raises(ArgumentTypeError, match="bank: expected an open MaskBank, found"):
            account(wrong)
        for call in (lambda wrong=wrong: diff_banks(wrong, bank), lambda wrong=wrong: diff_banks(bank, wrong)):
            with pytest.raises(ArgumentTypeError, match="source: expected an open bank or shard, found"):
                call()
    for wrong in (None, 3):
        with pytest.raises(ArgumentTypeError, match="sources: expected a list of paths"):
            merge(wrong, "b.bank")
        with pytest.raises(ArgumentTypeError, match="masks: expected what `read_masks` gives"):
            store(wrong, "b.bank")


@pytest.mark.parametrize("wrong", ["x", "1", None, True, b"1", [], 1j])
@pytest.mark.parametrize("mode", ["r", "a", "new"])
def test_a_timeout_is_a_number_of_seconds(bank, tmp_path, mode, wrong):
    with pytest.raises(ArgumentTypeError, match="timeout: expected a number of seconds, found"):
        opened(bank, tmp_path, mode, timeout=wrong)
    assert not (tmp_path / "new.bank").exists()


@pytest.mark.parametrize("mode", ["r", "a", "new"])
def test_seconds_are_at_least_none(bank, tmp_path, mode):
    for wrong in (-1, -0.5, float("nan"), np.float32("nan"), -float("inf")):
        with pytest.raises(SpecError, match="timeout: expected seconds of at least 0, found"):
            opened(bank, tmp_path, mode, timeout=wrong)
    assert not (tmp_path / "new.bank").exists()
    bank.close()
    for number, right in enumerate((0, 2**80, float("inf"), np.float32(3), np.int64(3))):
        with opened(bank, tmp_path / str(number), mode, timeout=right) as again:
            if mode != "r":
                again.put("t", MASKS, overwrite=True)


def opened(bank, folder, mode, **options):
    if mode != "new":
        return MaskBank.open(bank.path, mode, **options)
    os.makedirs(folder, exist_ok=True)
    return MaskBank.create(folder / "new.bank", bank.spec, **options)


def test_a_limit_is_a_number_of_bytes(bank, tmp_path):
    write_shard(bank, tmp_path / "a.shard")
    calls = {
        "bank": lambda limit: MaskBank.open(bank.path, limit=limit),
        "shard": lambda limit: ShardReader(tmp_path / "a.shard", limit=limit),
        "options": lambda limit: ReadOptions(limit=limit),
        "source": lambda limit: open_source(tmp_path / "a.shard", limit=limit),
    }
    for call in calls.values():
        for wrong in ("x", b"x", [], True, 1j):
            with pytest.raises(ArgumentTypeError, match="limit: expected a number of bytes, found"):
                call(wrong)
        for wrong in (-1, float("nan")):
            with pytest.raises(SpecError, match="limit: expected bytes of at least 0, found"):
                call(wrong)
        for right, known in ((None, None), (4e9, 4_000_000_000), (np.int64(5), 5), (float("inf"), 1 << 63)):
            found = call(right)
            assert found.limit == known
            if not isinstance(found, ReadOptions):
                found.close()


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(("shapes", wrong) for wrong in (3, "x", [("fc1", (4, 4))])),
        *((name, wrong) for name in ("separator", "name", "conv_type") for wrong in (3, b"x", ["x"], {})),
        *(("density", wrong) for wrong in ("x", [], 1j)),
        *(("nonzero", wrong) for wrong in (1, "yes")),
        *(("layers", wrong) for wrong in (3, [1], b"x")),
    ],
)
def test_what_is_said_about_a_file_has_its_type(field, wrong):
    with pytest.raises(ArgumentTypeError, match=rf"{field}: expected .*, found"):
        ReadOptions(**{field: wrong})


@pytest.mark.parametrize("field", ["layout", "bit_order", "vector_order"])
@pytest.mark.parametrize("wrong", [3, None, b"big", ["big"], {}])
def test_a_choice_is_one_of_the_names(field, wrong):
    with pytest.raises(ImportOptionError, match=r"expected one of .*, found"):
        ReadOptions(**{field: wrong})


def test_options_are_read_options(tmp_path):
    np.savez(tmp_path / "m.npz", **MASKS)
    for wrong in ("arrays", {"layout": "arrays"}, 3):
        with pytest.raises(ArgumentTypeError, match=r"options: expected ReadOptions\(...\), found"):
            read_masks(tmp_path / "m.npz", wrong)


SPEC = MaskSpec.of(MASKS)
MASK = Mask.from_dense(MASKS)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Mask(SPEC, None),
        lambda: Mask({"fc1": (4, 4)}, MASK.words),
        lambda: Mask.from_dense(MASKS, {"fc1": (4, 4)}),
        lambda: Mask.from_flat(np.zeros(16), {"fc1": (4, 4)}),
        lambda: SignedMask(MASKS, MASKS),
        lambda: SignedMask(MASK, None),
        lambda: SignedMask(MASK, MASK).relative_to(MASKS),
        lambda: SignedMask.from_deltas(MASKS, {"fc1": (4, 4)}),
        lambda: SignedMask.from_deltas(MASKS, density="half"),
        lambda: SignedMask.from_deltas(MASKS, density=True),
        lambda: Expected(MASKS, {"fc1": (4, 4)}),
        lambda: MaskMatrix({"fc1": (4, 4)}),
        lambda: MaskMatrix(SPEC, [MASKS]),
        lambda: MaskMatrix(SPEC, [MASK], names=[3]),
        lambda: MaskMatrix(SPEC).append(["t"], MASK),
    ],
)
def test_what_is_no_mask_spec_or_name_is_named(call):
    with pytest.raises(SpecError, match=r"expected .*found"):
        call()


@pytest.mark.parametrize("wrong", [np.zeros(16, complex), np.array(["a"] * 16), [None] * 16])
def test_products_are_of_real_numbers(wrong):
    matrix = MaskMatrix(SPEC, [MASK] * 16, names=list("abcdefghijklmnop"))
    for product in (matrix.dot, matrix.dot_many, matrix.weighted_sum):
        with pytest.raises(MaskValueError, match="expected real numbers"):
            product(wrong)


@pytest.mark.parametrize("wrong", ["much", True, -1])
def test_the_limit_of_a_message_is_a_number_of_bytes(wrong):
    with pytest.raises(MaskStoreError, match="limit: expected"):
        decode_mask(encode_mask(MASK), SPEC, limit=wrong)


def test_the_prior_of_a_message_is_one():
    with pytest.raises(CodecError, match="prior of a message: expected one such as"):
        decode_mask(encode_mask(MASK), SPEC, prior="uniform")


def test_numbers_of_numpy_are_seeds_and_tasks():
    prior = SeededScores(np.int64(3), task=np.uint8(1))
    assert prior == SeededScores(3, 1)
    assert prior.to_config() == SeededScores(3, 1).to_config()
    with pytest.raises(CodecError, match="expected task to be an integer"):
        SeededScores(0, np.bool_(True))
