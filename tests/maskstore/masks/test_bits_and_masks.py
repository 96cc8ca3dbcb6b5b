import copy
import operator
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskstore import Mask, MaskSpec
from maskstore.errors import LayerNotFoundError, MaskValueError, SpecError
from maskstore.masks import bits
from tests.helpers.masks import masks, names, random_mask, shapes, specs

bool_arrays = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))


@given(bool_arrays)
def test_bit_i_is_bit_i_mod_8_of_byte_i_div_8(array):
    words = bits.pack(array)
    data = bits.as_bytes(words)
    for i, bit in enumerate(array.reshape(-1)):
        assert data[i // 8] >> i % 8 & 1 == bit
    assert np.unpackbits(data, bitorder="little")[array.size :].sum() == 0
    assert bits.unpack(words, array.size).tolist() == array.reshape(-1).tolist()
    assert bits.popcount(words) == array.sum()


@given(bool_arrays)
def test_memory_order_does_not_matter(array):
    fortran = np.asfortranarray(array).reshape(array.shape)  # numpy makes a scalar a vector here
    doubled = np.repeat(array[None], 2, axis=0)[::-1]  # not contiguous
    expected = Mask.from_dense({"a": array})
    assert Mask.from_dense({"a": fortran}) == expected
    assert Mask.from_dense({"a": doubled[0]}) == expected
    assert Mask.from_dense({"a": array.astype(np.float32)}) == expected


@given(masks())
def test_dense_flat_and_packed_say_the_same(mask):
    assert Mask.from_dense(mask.dense()) == mask
    assert Mask.from_flat(mask.flat(), mask.spec) == mask
    assert mask.flat().tolist() == [bit for array in mask.dense().values() for bit in array.reshape(-1).tolist()]
    assert mask.ones == mask.as_bitarray().count() == mask.flat().sum()
    for layer in mask.spec:
        assert bits.from_bytes(mask.layer_bytes(layer.name).tobytes(), layer.size).tolist() == (
            mask.words[layer.packed].tolist()
        )


@given(st.data(), specs())
def test_hamming_and_xor(data, spec):
    a, b = data.draw(masks(spec)), data.draw(masks(spec))
    assert a.hamming(b) == int((a.flat() != b.flat()).sum()) == (a ^ b).ones
    assert (a ^ b) ^ b == a
    assert a.hamming(a) == 0


def test_masks_are_immutable_and_own_their_bits():
    words = np.zeros(1, dtype=np.uint64)
    mask = Mask(MaskSpec({"a": (3,)}), words)
    view = np.zeros(1, dtype=np.uint64)[:]
    view.flags.writeable = False  # a read-only view of an array that is not
    of_view = Mask(MaskSpec({"a": (3,)}), view)
    view.base[0] = 7
    words[0] = 7
    assert mask.ones == of_view.ones == 0
    with pytest.raises(ValueError, match="read-only"):
        mask.words[0] = 1


@given(masks())
def test_masks_and_specs_can_be_pickled_and_copied(mask):
    assert list(mask.spec.shapes) == [layer.name for layer in mask.spec]  # fills what is cached
    for again in (pickle.loads(pickle.dumps(mask)), copy.deepcopy(mask)):
        assert again == mask
        assert again.spec == mask.spec


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.array([0, 1, 2]), MaskValueError),
        (np.array([0.0, np.nan, 1.0]), MaskValueError),
        (np.array(["a", "b", "c"]), MaskValueError),
        (np.array([True, False]), SpecError),
        (np.zeros((3, 1), dtype=bool), SpecError),
    ],
)
def test_bad_values_and_shapes_are_named(value, error):
    with pytest.raises(error, match="'a'"):
        Mask.from_dense({"a": value}, MaskSpec({"a": (3,)}))


def test_wrong_layers_are_named():
    spec = MaskSpec({"fc1": (2,), "fc2": (2,)})
    with pytest.raises(LayerNotFoundError, match=r"'fc3'.*fc1, fc2"):
        Mask.from_dense({"fc1": [0, 1], "fc3": [0, 1]}, spec)
    with pytest.raises(SpecError, match="fc2"):
        Mask.from_dense({"fc1": [0, 1]}, spec)
    with pytest.raises(KeyError):
        random_mask(spec, 0.5, 0).layer("fc9")
    with pytest.raises(SpecError, match="two specs"):
        random_mask(spec, 0.5, 0).hamming(random_mask(MaskSpec({"a": (1,)}), 0.5, 0))


def test_set_padding_bits_are_refused():
    with pytest.raises(MaskValueError, match="padding"):
        Mask(MaskSpec({"a": (3,)}), np.array([8], dtype=np.uint64))


@given(st.dictionaries(names, shapes, min_size=1, max_size=5))
def test_specs_round_trip_and_tile_the_flat_order(shape_by_name):
    spec = MaskSpec(shape_by_name)
    again = MaskSpec.from_json(spec.to_json())
    assert again == spec
    assert again.fingerprint == spec.fingerprint
    assert list(spec.shapes) == list(shape_by_name)
    ends = [0, *(layer.flat_start + layer.size for layer in spec)]
    assert [layer.flat_start for layer in spec] == ends[:-1]
    assert ends[-1] == spec.bits
    assert spec.words == sum(-(-layer.size // 64) for layer in spec)


@pytest.mark.parametrize(
    "shapes_by_name",
    [
        {},
        {"a": (-1,)},
        {"a": (1.5,)},
        {"": (1,)},
        {"a": (1,) * 9},
        {"a": (1 << 20, 1 << 20)},
        {"\ud800": (1,)},
        {"a": (True,)},
        {str(i): (1 << 33,) for i in range(9)},
    ],
)
def test_bad_specs_are_refused(shapes_by_name):
    with pytest.raises(SpecError):
        MaskSpec(shapes_by_name)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[1]", '[["a"]]', '[["a",3]]', '[["a",[1]],["a",[1]]]', "[" * 100_000]
)
def test_bad_spec_json_is_refused(text):
    with pytest.raises(SpecError):
        MaskSpec.from_json(text)


@pytest.mark.parametrize(
    "shapes", [{"a": (64,)}, {"a": (1,), "b": (65, 3), "none": (0, 2)}, {"a": (7, 9), "b": (130,)}]
)
def test_masks_have_the_algebra_of_sets(shapes):
    spec = MaskSpec(shapes)
    a, b = random_mask(spec, 0.5, 1), random_mask(spec, 0.3, 2)
    x, y = a.flat(), b.flat()
    for found, expected in ((a & b, x & y), (a | b, x | y), (a ^ b, x ^ y), (~a, ~x), (a & ~b, x & ~y)):
        assert found == Mask.from_flat(expected, spec)
        assert not found.words.flags.writeable
        assert hash(found) == hash(Mask.from_flat(expected, spec))
    assert ~~a == a
    assert (~a).ones == spec.bits - a.ones


def test_a_mask_gives_its_layers_by_name():
    mask = random_mask(MaskSpec({"fc1": (3, 5), "fc2": (4,)}), 0.5, 0)
    assert mask["fc1"].tolist() == mask.layer("fc1").tolist()
    assert list(mask) == ["fc1", "fc2"]
    assert ("fc1" in mask, "fc3" in mask, 0 in mask) == (True, False, False)
    with pytest.raises(LayerNotFoundError, match="expected one of fc1, fc2"):
        mask["fc3"]


@pytest.mark.parametrize("operation", [operator.and_, operator.or_, operator.xor])
def test_masks_are_combined_with_masks_of_their_spec_only(operation):
    mask = random_mask(MaskSpec({"fc1": (3, 5)}), 0.5, 0)
    with pytest.raises(SpecError, match="two specs"):
        operation(mask, random_mask(MaskSpec({"fc1": (5, 3)}), 0.5, 0))
    for other in (None, 1, "fc1", mask.dense(), mask.words):
        with pytest.raises(TypeError):
            operation(mask, other)
