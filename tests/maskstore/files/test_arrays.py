"""Ordinary tensors and numbers are taken wherever an array or a number is; what holds no values is named."""

import warnings

import numpy as np
import pytest

from maskstore import Mask, MaskBank, MaskMatrix, MaskSpec
from maskstore.errors import MaskValueError
from maskstore.files import encode_meta, parse_object
from maskstore.masks.bits import as_numpy

torch = pytest.importorskip("torch")
BITS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def _quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(BITS, 1.0, 0, torch.quint8)


TENSORS = {
    "bf16": BITS.bfloat16(),
    "half": BITS.half(),
    "float8": BITS.to(torch.float8_e4m3fn),
    "float8_e5m2": BITS.to(torch.float8_e5m2),
    "double": BITS.double(),
    "bool": BITS.bool(),
    "uint8": BITS.to(torch.uint8),
    "parameter": torch.nn.Parameter(BITS.clone()),
    "bf16 parameter": torch.nn.Parameter(BITS.bfloat16()),
    "needs a gradient": (torch.nn.Parameter(BITS.clone()) * 1),
    "transposed": BITS.t().contiguous().t(),
    "strided": torch.stack([BITS, BITS], dim=-1)[..., 0],
    "sparse": BITS.to_sparse(),
    "buffer": torch.nn.Buffer(BITS.bool()),
    "inference": torch.inference_mode()(lambda: BITS.clone())(),
    "negative view": torch._neg_view(-BITS),
    "list": BITS.tolist(),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_masks_and_extras_of_any_tensor_come_back(tmp_path, kind):
    value = TENSORS[kind]
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (2, 3)})) as bank:
        bank.put("t", {"fc": value}, extras={"mean": value})
        assert bank.layer("t", "fc").tolist() == BITS.bool().tolist()
        assert np.array_equal(bank.extras("t")["mean"], BITS.numpy())
    assert Mask.from_dense({"fc": value}).ones == 3


def test_bfloat16_extras_keep_every_value(tmp_path):
    values = torch.randn(100).bfloat16()
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (1,)})) as bank:
        bank.put("t", {"fc": [1]}, extras={"mean": values, "scalar": torch.tensor(0.5).bfloat16()})
        extras = bank.extras("t")
    assert extras["mean"].dtype == np.float32
    assert np.array_equal(extras["mean"], values.float().numpy())
    assert extras["scalar"].shape == () and extras["scalar"] == 0.5  # noqa: PT018


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.zeros(2, 3, device="meta"), r"no values \(device meta\)"),
        (_quantized(), "quantized values"),
        (torch.empty(2, 3, dtype=torch.uint4), "uint4 on cpu"),
        (BITS.to(torch.complex64), "complex64"),
        ([[1, 0], [1]], "list that is none"),
        ("fc", "dtype <U2"),
        (None, "dtype object"),
    ],
)
def test_what_holds_no_numbers_is_named(tmp_path, value, found):
    with pytest.raises(MaskValueError, match=f"layer 'fc'.*{found}"):
        Mask.from_dense({"fc": value})
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (2, 3)})) as bank:
        with pytest.raises(MaskValueError, match=f"fc.*{found}"):
            bank.put("t", {"fc": value})
        if "complex" not in found:
            with pytest.raises(MaskValueError, match=f"extras 'mean'.*{found}"):
                bank.put("t", {"fc": BITS}, extras={"mean": value})
        assert list(bank) == []


def test_types_that_numpy_lacks_but_holds_for_others() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert as_numpy(np.array([1, 0, 0.5], dtype=ml_dtypes.bfloat16), "x").tolist() == [1, 0, 0.5]
    assert Mask.from_dense({"a": np.array([1, 0], dtype=ml_dtypes.int4)}).ones == 1


def test_numbers_of_numpy_and_torch_are_metadata(tmp_path):
    given = {
        "accuracy": np.float32(0.5), "steps": np.int64(3), "done": np.bool_(True), "loss": torch.tensor(0.25),
        "array": np.array(2.0), "deep": {"all": [np.float64(0.1), (np.uint8(7),)]}, "name": np.str_("x"), "none": None,
    }  # fmt: skip
    with MaskBank.create(tmp_path / "a.bank", MaskSpec({"fc": (1,)}), meta={"seed": np.int32(9)}) as bank:
        bank.put("t", {"fc": [1]}, meta=given)
        assert bank.task_meta("t") == {
            "accuracy": 0.5, "steps": 3, "done": True, "loss": 0.25, "array": 2.0, "deep": {"all": [0.1, [7]]},
            "name": "x", "none": None,
        }  # fmt: skip
        assert bank.task_meta("t")["done"] is True
        assert bank.meta == {"seed": 9}
    assert parse_object(encode_meta({np.int64(3): 1})) == {"3": 1}


@pytest.mark.parametrize(
    ("meta", "phrase"),
    [
        ({"accuracy": float("nan")}, r"metadata\['accuracy'\]: expected JSON values, found nan"),
        ({"a": np.float32("inf")}, r"metadata\['a'\]: expected JSON values, found inf"),
        ({"a": {"b": [1, {2}]}}, r"metadata\['a'\]\['b'\]\[1\]: expected JSON values, found set"),
        ({"curve": np.zeros(3)}, r"metadata\['curve'\]: expected JSON values, found ndarray"),
        ({"t": torch.zeros((), device="meta")}, r"metadata\['t'\]: expected JSON values, found Tensor"),
        ({"c": np.complex64(1)}, r"metadata\['c'\]: expected JSON values, found complex"),
    ],
)
def test_a_value_that_json_lacks_is_named_by_its_key(meta, phrase):
    with pytest.raises(MaskValueError, match=phrase):
        encode_meta(meta)
    endless: dict = {}
    endless["self"] = endless
    with pytest.raises(MaskValueError, match="metadata"):
        encode_meta(endless)


@pytest.mark.parametrize("kind", ["bf16", "bf16 parameter", "needs a gradient", "transposed", "negative view"])
def test_products_take_any_tensor(kind):
    mask = Mask.from_dense({"fc": BITS})
    matrix = MaskMatrix(mask.spec, [mask])
    value = TENSORS[kind]
    assert matrix.dot(value.reshape(-1)).tolist() == [3.0]
    assert matrix.dot_many(value.reshape(1, -1)).tolist() == [[3.0]]
    left, right = torch.ones(1, 2).bfloat16(), torch.nn.Parameter(torch.ones(1, 3))
    assert matrix.outer_dots("fc", value, left, right).tolist() == [[3.0]]
    with pytest.raises(MaskValueError, match=r"dot: .*device meta"):
        matrix.dot(torch.zeros(6, device="meta"))
