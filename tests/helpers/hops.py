"""Which modules of this library a call enters: how far a reader has to walk to follow it.

`python -m tests.helpers.hops` prints the lists of the section "Hops" of `docs/design.md`.
"""

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from maskstore import Mask, MaskBank, MaskMatrix, MaskSpec
from tests.helpers.modules import PACKAGES

ROOT = Path(__file__).parents[2]
BESIDE_THE_WAY = ("supsup_models/data/", "supsup_models/networks/", "supsup_models/training/steps/")
"""Of `supsup train`, what lies beside the way from the command line to `train_task` and back."""


def entered(call: Callable[[], Any]) -> list[str]:
    """The files of our modules in which functions run during a call, in order of entry; compiled loops do not count."""
    seen: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and frame.f_code.co_name != "<module>" and path.is_relative_to(ROOT):
            inside = path.relative_to(ROOT)
            if inside.parts[0] in PACKAGES:
                seen.setdefault(inside.as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return list(seen)


def of_put(folder: Path) -> list[str]:
    """`bank.put` of a mask by the automatic choice of a codec."""
    masks = {"fc1": np.random.default_rng(0).random((300, 784)) < 0.1}
    with MaskBank.create(folder / "a.bank", MaskSpec.of(masks)) as bank:
        bank.put("first", masks, meta={"accuracy": 0.95})
        return entered(lambda: bank.put("second", masks, meta={"accuracy": 0.95}))


def of_infer_task() -> list[str]:
    """`infer_task` by its default method, in steady use; modules of `supsup_models`."""
    from supsup_models import MaskedNetwork, infer_task

    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
    matrix, rng = MaskMatrix(model.spec), np.random.default_rng(0)
    for number in range(3):
        matrix.append(f"task-{number}", Mask.from_flat(rng.random(model.spec.bits) < 0.5, model.spec))
    images = rng.random((16, 64)).astype(np.float32)
    infer_task(model, matrix, images)
    return [path for path in entered(lambda: infer_task(model, matrix, images)) if path.startswith("supsup_models/")]


def of_train(folder: Path) -> list[str]:
    """`supsup train` on its way from the command line to `train_task` and back; modules of `supsup_models`."""
    from supsup_models.cli.app import run_command

    def train(run: str) -> None:
        words = ["--stream", "permuted-digits", "--tasks", "1", "--outputs", "40", "--batches", "2"]
        assert run_command(["train", *words, "--out", str(folder / run)]) == 0

    train("first")  # what runs only while modules are imported does not count
    found = (path for path in entered(lambda: train("second")) if path.startswith("supsup_models/"))
    return [path for path in found if not path.startswith(BESIDE_THE_WAY)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        walks = {"bank.put": of_put(place), "infer_task": of_infer_task(), "supsup train": of_train(place)}
        for what, found in walks.items():
            print(f"- `{what}`, {len(found)} modules: " + ", ".join(f"`{path}`" for path in found))
