"""What the maskstore tests draw: specs, masks, priors."""

import numpy as np
from hypothesis import strategies as st

from maskstore import Mask, MaskMatrix, MaskSpec, SignedMask
from maskstore.masks import rows_of
from maskstore.priors import Prior, SeededScores, Uniform

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
shapes = st.lists(st.integers(0, 12), min_size=0, max_size=3).map(tuple)
densities = st.sampled_from([0.0, 0.005, 0.03, 0.1, 0.5, 0.9, 1.0])


def specs(max_layers: int = 4) -> st.SearchStrategy[MaskSpec]:
    """Specs with odd sizes, empty layers and scalars among them."""
    return st.dictionaries(names, shapes, min_size=1, max_size=max_layers).map(MaskSpec)


@st.composite
def masks(draw: st.DrawFn, spec: MaskSpec | None = None) -> Mask:
    """A mask of any density."""
    spec = spec or draw(specs())
    return random_mask(spec, draw(densities), draw(st.integers(0, 2**32 - 1)))


def random_mask(spec: MaskSpec, density: float, seed: int) -> Mask:
    """Independent bits."""
    return Mask.from_flat(np.random.default_rng(seed).random(spec.bits) < density, spec)


def random_matrix(spec: MaskSpec, count: int, *, seed: int = 0, density: float = 0.5) -> MaskMatrix:
    """Masks `task-0`, `task-1`, ... of independent bits, one after the other, so that thousands of them fit."""
    rng = np.random.default_rng(seed)
    matrix = MaskMatrix(spec, room=count)
    for number in range(count):
        matrix.append(f"task-{number}", Mask.from_flat(rng.random(spec.bits) < density, spec))
    return matrix


priors: st.SearchStrategy[Prior] = st.one_of(
    st.just(Uniform()),
    st.builds(SeededScores, seed=st.integers(0, 2**64 - 1), task=st.integers(0, 2**32 - 1)),
)


@st.composite
def signed_masks(draw: st.DrawFn, spec: MaskSpec | None = None) -> SignedMask:
    """A signed mask of any density, without scales, or with one for each layer or row."""
    mask = draw(masks(spec))
    negative = draw(masks(mask.spec)) & mask
    kind = draw(st.sampled_from(["none", "layer", "row"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if kind == "none":
        return SignedMask(mask, negative)
    return SignedMask(mask, negative, {
        layer.name: rng.standard_normal(rows_of(layer) if kind == "row" else ()) for layer in mask.spec
    })  # fmt: skip
