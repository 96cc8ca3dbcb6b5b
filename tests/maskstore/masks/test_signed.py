import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore import Mask, MaskSpec, SignedMask
from maskstore.errors import LayerNotFoundError, MaskValueError, SpecError
from maskstore.masks import bits, kept_bits, rows_of, spread_bits
from tests.helpers.masks import masks, signed_masks, specs

torch = pytest.importorskip("torch")

VALUES = {"a": [[0, 1, -1], [0, 0, 1]], "b": [-1, 0]}


@given(signed_masks())
def test_dense_says_the_same(found):
    assert SignedMask.from_dense(found.dense(), found.spec, scales=found.scales) == found
    for name, values in found.dense().items():
        assert values.dtype == np.int8
        assert np.array_equal(values != 0, found.mask[name])
        assert np.array_equal(values < 0, found.negative[name])
        assert np.array_equal(found[name], values)
    assert list(found) == list(found.spec.shapes)
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
    assert hash(pickle.loads(pickle.dumps(found))) == hash(found)


@given(st.data(), specs())
def test_bits_at_kept_places_are_taken_out_and_put_back(data, spec):
    """The compiled loops do what numpy's indexing does."""
    mask, values = data.draw(masks(spec)), data.draw(masks(spec))
    for layer in spec:
        kept, words = mask.words[layer.packed], values.words[layer.packed]
        _compare(words, kept, layer.size)


@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 0.97, 1.0])
def test_long_layers_too(density):
    rng = np.random.default_rng(0)
    kept, values = (Mask.from_dense({"a": rng.random(100_003) < d}) for d in (density, 0.5))
    _compare(values.words, kept.words, 100_003)


def _compare(words, kept, size):
    found = kept_bits(words, kept)
    expected = bits.unpack(words, size)[bits.unpack(kept, size)]
    assert np.array_equal(found, bits.pack(expected))
    assert np.array_equal(spread_bits(found, kept), words & kept)


@given(signed_masks(), st.data())
def test_relative_to_signs_twice_is_the_identity(found, data):
    signs = data.draw(masks(found.spec))
    relative = found.relative_to(signs)
    assert relative.relative_to(signs) == found
    for name, values in relative.dense().items():
        assert np.array_equal(values, found[name] * np.where(signs[name], -1, 1))


@pytest.mark.parametrize("kind", [np.float32, np.int64, torch.tensor, torch.sparse_coo_tensor])
def test_deltas_are_ternarised_to_the_nearest_scale(kind):
    values = np.array([[0, 3, -1], [0, 0, -5]])
    if kind is torch.sparse_coo_tensor:
        given = torch.tensor(values).to_sparse()
    else:
        given = kind(values) if kind is torch.tensor else values.astype(kind)
    found = SignedMask.from_deltas({"a": given})
    assert np.array_equal(found["a"], np.sign(values))
    assert found.scales["a"] == 3
    by_row = SignedMask.from_deltas({"a": given}, scale="row")
    assert np.array_equal(by_row.scales["a"], [2, 5])
    assert np.array_equal(by_row.delta("a"), [[0, 2, -2], [0, 0, -5]])
    assert SignedMask.from_deltas({"a": given}, scale="none").scales == {}
    dense = values.astype(float)
    errors = [((dense - np.sign(dense) * scale) ** 2).sum() for scale in (2.9, 3.0, 3.1)]
    assert errors[1] == min(errors)


def test_a_density_keeps_the_largest_and_equal_ones_in_order():
    values = np.array([1.0, -4, 2, 2, -2, 0, 3, 0])
    kept = {d: SignedMask.from_deltas({"a": values}, density=d)["a"].tolist() for d in (0, 0.25, 0.5, 1)}
    assert kept[0] == [0] * 8
    assert kept[0.25] == [0, -1, 0, 0, 0, 0, 1, 0]
    assert kept[0.5] == [0, -1, 1, 1, 0, 0, 1, 0]
    assert kept[1] == [1, -1, 1, 1, -1, 0, 1, 0]  # what is 0 has no sign to keep


def test_a_layer_of_one_dimension_has_one_row():
    spec = MaskSpec({"scalar": (), "bias": (5,), "weight": (3, 5), "kernel": (4, 2, 3)})
    assert [rows_of(layer) for layer in spec] == [1, 1, 3, 4]
    values = {layer.name: np.ones(layer.shape) for layer in spec}
    found = SignedMask.from_deltas(values, scale="row")
    assert [scale.shape for scale in found.scales.values()] == [(1,), (1,), (3,), (4,)]
    assert all(np.array_equal(found.deltas()[name], values[name]) for name in values)


def test_what_is_no_signed_mask_is_refused():
    one = Mask.from_dense({"a": [1, 0]})
    with pytest.raises(MaskValueError, match="negative weight in the mask"):
        SignedMask(one, ~one)
    with pytest.raises(SpecError, match="two specs"):
        SignedMask(one, Mask.from_dense({"b": [1, 0]}))
    for values, error, match in [
        ({"a": [0, 2]}, MaskValueError, "-1, 0 and 1, found 2"),
        ({"a": [np.nan]}, MaskValueError, "found nan"),
        ({"a": [1j]}, MaskValueError, "real numbers"),
        ([1], SpecError, "dict of layer name"),
    ]:
        with pytest.raises(error, match=match):
            SignedMask.from_dense(values)
    with pytest.raises(MaskValueError, match="finite numbers"):
        SignedMask.from_deltas({"a": [np.inf]})
    for options in ({"scale": "column"}, {"density": 1.1}, {"density": np.nan}):
        with pytest.raises(SpecError, match=r"expected .*found"):
            SignedMask.from_deltas({"a": [1.0]}, **options)


@pytest.mark.parametrize(
    ("scales", "error", "match"),
    [
        ({"a": 1.0}, SpecError, r"found none of \['b'\]"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, LayerNotFoundError, "'c'"),
        ({"a": [1.0, 2.0], "b": 1.0}, SpecError, "both kinds"),
        ({"a": [1.0, 2.0, 3.0], "b": 1.0}, SpecError, "or 2 for its rows"),
        ({"a": "x", "b": 1.0}, SpecError, "expected a number"),
        ({"a": np.inf, "b": 1.0}, MaskValueError, "finite"),
        ({"a": 1e300, "b": 1.0}, MaskValueError, "finite"),
        ([1.0, 1.0], SpecError, "dict of layer name"),
    ],
)
def test_scales_are_those_of_the_layers(scales, error, match):
    with pytest.raises(error, match=match):
        SignedMask.from_dense(VALUES, scales=scales)


def test_equality_and_repr():
    plain = SignedMask.from_dense(VALUES)
    scaled = SignedMask.from_dense(VALUES, scales={"a": 1, "b": 2})
    assert plain != scaled
    assert plain != SignedMask.from_dense({**VALUES, "b": [1, 0]})
    assert plain != plain.mask
    assert (plain.nbytes, plain.spec) == (32, plain.mask.spec)
    assert "2 of 4 negative, a scale for each layer" in repr(scaled)
    assert "scale" not in repr(plain)
    with pytest.raises(ValueError, match="read-only"):
        scaled.scales["a"][...] = 3


def test_a_density_is_rounded_up_to_whole_weights_and_no_further():
    values = np.arange(1, 101)
    for percent in range(1, 101):  # 0.07 * 100 is a little more than 7 in floats
        assert SignedMask.from_deltas({"a": values}, density=percent / 100).mask.ones == percent
    assert SignedMask.from_deltas({"a": values[:5]}, density=0.1).mask.ones == 1
