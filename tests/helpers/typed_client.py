"""A program of a user with strict types. Type checkers read it with the wheel alone; it is never run."""

from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from hopfield import HopfieldNetwork, Storkey
from maskstore import Mask, MaskBank, MaskMatrix, MaskSpec, SignedMask, account, decode_mask, encode_mask
from maskstore.errors import MaskStoreError
from supsup_models import RECIPES, Guess, MaskedNetwork, infer_task, open_stream, train_task


def keep(path: Path, masks: dict[str, NDArray[np.bool_]]) -> float:
    """Stores a mask, and gives the bits that each of its weights takes."""
    spec = MaskSpec.of(masks)
    with MaskBank.create(path, spec, exist_ok=True) as bank:
        bank.put("task-0", masks, meta={"accuracy": 0.95}, overwrite=True)
        assert_type(bank["task-0"], Mask)
        assert_type(bank["task-0"].dense(), dict[str, NDArray[np.bool_]])
        assert_type(bank.matrix(), MaskMatrix)
        assert_type(bank.signed("task-0"), SignedMask)
        return 8 * account(bank).file_bytes / spec.bits


def send(mask: Mask) -> Mask | None:
    """A mask as bytes, and back."""
    try:
        return decode_mask(encode_mask(mask), mask.spec)
    except MaskStoreError:
        return None


def learn(path: Path) -> str:
    """Trains a task and asks which it is."""
    stream = open_stream("permuted-digits", tasks=1, seed=0)
    recipe = RECIPES["default"]
    model = recipe.network("lenet-300-100", inputs=stream.inputs, outputs=100, classes=10, seed=0)
    trained = train_task(model, stream[0].train, recipe, task=0, steps=10)
    with MaskBank.create(path, model.spec, meta=model.bank_meta()) as bank:
        bank.put("task-0", trained.mask, prior=trained.prior)
        assert_type(MaskedNetwork.from_bank(bank), MaskedNetwork)
        matrix = bank.matrix()
    found = infer_task(model, matrix, stream[0].test.images(slice(0, 16)), method="one-shot")
    assert_type(found, Guess)
    return matrix.names[found.task]


def remember(width: int) -> HopfieldNetwork:
    """A memory."""
    return HopfieldNetwork(width, rule=Storkey())
