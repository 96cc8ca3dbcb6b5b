import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstore.errors import CodecError
from maskstore.philox import (
    Role,
    random_packed_bits,
    random_permutation,
    random_uint32,
    random_uniform,
    random_words,
)

_M0, _M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_W0, _W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_MASK = (1 << 64) - 1


def _philox_block(key: tuple[int, int], counter: int) -> list[int]:
    """Philox4x64-10 as the paper defines it, in Python integers: what `philox` is held against."""
    c = [counter >> 64 * i & _MASK for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c[0], _M1 * c[2]
        c = [p1 >> 64 ^ c[1] ^ k0, p1 & _MASK, p0 >> 64 ^ c[3] ^ k1, p0 & _MASK]
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c


@given(
    st.integers(0, 2**64 - 1), st.sampled_from(Role), st.integers(0, 2**24 - 1), st.integers(0, 2**32 - 1),
    st.integers(0, 40), st.integers(0, 40),
)  # fmt: skip
def test_words_are_philox_at_the_documented_address(seed, role, layer, stream, start, count):
    key = (seed, role << 56 | layer << 32 | stream)
    expected = [word for block in range(25) for word in _philox_block(key, block + 1)][start : start + count]
    assert random_words(seed, role, count, layer=layer, stream=stream, start=start).tolist() == expected


def test_golden_words():
    words = random_words(20061476, Role.SCORE, 5, layer=2, stream=7)
    assert [f"{word:016x}" for word in words] == GOLDEN_WORDS
    assert random_uint32(20061476, Role.SCORE, 3, layer=2, stream=7).tolist() == [
        int(GOLDEN_WORDS[0][8:], 16), int(GOLDEN_WORDS[0][:8], 16), int(GOLDEN_WORDS[1][8:], 16)
    ]  # fmt: skip
    assert random_uniform(0, Role.SCORE, 3).tolist() == GOLDEN_UNIFORM
    assert random_permutation(0, Role.PERMUTATION, 8, stream=3).tolist() == GOLDEN_PERMUTATION


GOLDEN_WORDS = ["efde4c51b96dbfb3", "5bcf7c10cd7990ba", "100e1c873160489c", "a67d985d19f0ae64", "1664763cd9fb21b1"]
GOLDEN_UNIFORM = [-0.05803647846914828, -0.2112968813162297, 0.41881330288015306]
GOLDEN_PERMUTATION = [3, 6, 0, 1, 2, 5, 7, 4]


@given(st.integers(0, 200), st.integers(0, 2**64 - 1))
def test_conversions_are_exact(count, seed):
    integers = random_uint32(seed, Role.SCORE, count)
    uniform = random_uniform(seed, Role.SCORE, count)
    assert uniform.tolist() == [(2 * int(u) + 1 - 2**32) / 2**32 for u in integers]
    assert np.all((uniform > -1) & (uniform < 1) & (uniform != 0))
    packed = random_packed_bits(seed, Role.WEIGHT_SIGN, count)
    raw = random_words(seed, Role.WEIGHT_SIGN, (count + 63) // 64)
    bits = [int(raw[i // 64]) >> i % 64 & 1 for i in range(count)]
    assert [int(packed[i // 64]) >> i % 64 & 1 for i in range(64 * packed.size)] == bits + [0] * (-count % 64)
    assert sorted(random_permutation(seed, Role.PERMUTATION, count)) == list(range(count))


@pytest.mark.parametrize(
    ("field", "value"), [("seed", -1), ("seed", 2**64), ("seed", 1.5), ("layer", 2**24), ("stream", 2**32)]
)
def test_an_address_out_of_range_is_named(field, value):
    arguments = {"seed": 0, "layer": 0, "stream": 0, field: value}
    with pytest.raises(CodecError, match=field):
        random_words(arguments["seed"], Role.SCORE, 1, layer=arguments["layer"], stream=arguments["stream"])
