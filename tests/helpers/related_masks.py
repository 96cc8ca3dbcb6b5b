"""Masks that are much alike, and a bank of masks that are coded against each other."""

from pathlib import Path

from maskstore import Mask, MaskBank, MaskSpec
from maskstore.priors import Prior, Reference, RunningMean, SeededScores, Uniform
from tests.helpers.masks import random_mask

SPEC = MaskSpec({"fc1": (30, 40), "empty": (0, 3), "fc2": (10, 30)})
PARENT = random_mask(SPEC, 0.5, 0)
GIVEN: list[Prior] = [Uniform(), SeededScores(3, 1)]


def like(mask: Mask, share: float, seed: int) -> Mask:
    """A mask that differs from another in a share of its bits."""
    return mask ^ random_mask(mask.spec, share, seed)


def make_bank(path: Path) -> Path:
    """`base`, `second` and `third` alone, `one` against `base`, `mean` against all three."""
    with MaskBank.create(path, SPEC) as bank:
        for n, name in enumerate(["base", "second", "third"]):
            bank.put(name, like(PARENT, 0.02, n), prior=SeededScores(3, 1))
        bank.put("one", like(PARENT, 0.02, 7), prior=Reference("base", given=SeededScores(3, 1)), meta={"k": 1})
        bank.put("mean", like(PARENT, 0.02, 8), prior=RunningMean(("base", "second", "third")))
    return path


def masks_of(path: Path) -> dict[str, Mask]:
    """All masks of a bank, by name."""
    with MaskBank.open(path) as bank:
        return dict(bank.masks())
