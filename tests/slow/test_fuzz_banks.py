"""Changed bytes in a bank file: found by verify, or without any effect on what is read; never a crash or wrong bits."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec, Reference
from maskstore.bank.accounting import account
from maskstore.errors import MaskStoreError
from tests.helpers.masks import random_mask
from tests.helpers.small_blocks import put_in_blocks

GOLDEN = Path(__file__).parents[1] / "maskstore" / "golden" / "version-1.bank"
MUTATIONS = int(os.environ.get("MASKSTORE_TEST_MUTATIONS", "600"))  # 10 000 were used for the figure in docs/format.md


def _content(bank: MaskBank) -> list[Any]:
    """Everything a reader can get out of a bank."""
    rows = [
        (name, bank[name].words.tolist(), bank.info(name), {k: v.tolist() for k, v in bank.extras(name).items()})
        for name in bank
    ]
    return [bank.meta, bank.spec, rows, [(name, mask.words.tolist()) for name, mask in bank.masks()]]


@pytest.fixture(scope="module", params=["golden", "blocks"])
def original(request, tmp_path_factory) -> tuple[bytes, list[Any]]:
    path = GOLDEN if request.param == "golden" else _in_blocks(tmp_path_factory.mktemp("blocks") / "a.bank")
    with MaskBank.open(path) as bank:
        return path.read_bytes(), _content(bank)


def _in_blocks(path: Path) -> Path:
    """A bank of masks in blocks, by several codecs, one of them against another."""
    spec = MaskSpec({"fc1": (300, 250), "fc2": (10, 30), "fc3": (70_000,)})
    with pytest.MonkeyPatch.context() as patch, MaskBank.create(path, spec, page_size=512) as bank:
        put_in_blocks(patch)
        patch.setattr("maskstore.codecs.blocks._DIGITS", 16)  # several blocks a layer
        for number, (codec, density) in enumerate([("raw", 0.02), ("ans", 0.02), ("gap", 0.01), ("auto", 0.03)]):
            bank.put(codec, random_mask(spec, density, number), codec=codec, extras={"k": np.float32([number])})
        near = bank["ans"] ^ random_mask(spec, 0.001, 9)
        bank.put("near", near, prior=Reference("ans"))
    return path


def _read_everything(path: Path) -> list[Any] | None:
    """The content if `verify` is content with the file; None if it was refused by name. Anything else escapes."""
    try:
        with MaskBank.open(path) as bank:
            bank.verify()
            account(bank)
            return _content(bank)
    except MaskStoreError:
        return None


def test_every_kind_of_mutation(original, tmp_path):
    data, content = original
    path = tmp_path / "mutated.bank"
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(MUTATIONS):
        mutated = bytearray(data)
        match rng.integers(6):
            case 0 | 1 | 2:  # a single byte: the promise of verify
                mutated[rng.integers(len(data))] ^= int(rng.integers(1, 256))
            case 3:  # many bytes
                for at in rng.integers(len(data), size=int(rng.integers(2, 40))):
                    mutated[at] = int(rng.integers(256))
            case 4:  # a torn end
                del mutated[int(rng.integers(len(data))) :]
            case 5:  # a piece copied over another
                size = int(rng.integers(1, 300))
                a, b = rng.integers(len(data) - size, size=2)
                mutated[a : a + size] = data[b : b + size]
        path.write_bytes(mutated)
        found = _read_everything(path)
        refused += found is None
        assert found is None or found == content, "silently wrong"
    assert refused > MUTATIONS // 2


def test_reading_without_verify_never_gives_wrong_bits(original, tmp_path):
    """Even a caller who never verifies gets the right mask or an error."""
    data, content = original
    path = tmp_path / "mutated.bank"
    rng = np.random.default_rng(2)
    masks = {name: words for name, words, *_ in content[2]}
    for _ in range(MUTATIONS // 3):
        mutated = bytearray(data)
        mutated[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(mutated)
        for name, words in masks.items():
            try:
                with MaskBank.open(path) as bank:
                    assert bank[name].words.tolist() == words
                    bank.layer(name, "fc1")
            except MaskStoreError:
                continue


def test_truncated_while_open(tmp_path):
    path = shutil.copy(GOLDEN, tmp_path / "cut.bank")
    with MaskBank.open(path) as bank:
        assert len(bank) == 9
        os.truncate(path, 1500)
        with pytest.raises(MaskStoreError):
            bank.verify()
