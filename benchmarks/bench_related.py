"""What it saves to code masks against each other: bits a parameter of related masks, alone and compacted together.

`pytest benchmarks/ -k related -s`. Needs the MNIST files (MASKSTORE_DATA). The tasks are rotations of MNIST;
sizes count the whole file: payload, tables, pointers and masks that are only kept for others.
"""

import os
from pathlib import Path

import pytest

from maskstore import MaskBank, MaskMatrix
from maskstore.bank.accounting import account
from maskstore.bank.compaction import compact
from maskstore.priors import Reference, RunningMean, Uniform

pytestmark = pytest.mark.skipif(not os.environ.get("MASKSTORE_DATA"), reason="needs MNIST files: set MASKSTORE_DATA")
TASKS, BATCHES = 8, 1000


def file_bits(path: Path) -> float:
    """Bits a parameter of the whole file."""
    with MaskBank.open(path) as bank:
        found = account(bank)
    size = found.per_parameter(8 * found.total_bytes)
    assert size is not None
    return size


@pytest.mark.parametrize("start", ["own scores", "same scores", "transfer"])
def test_related_masks_need_fewer_bits_together(start, tmp_path):
    pytest.importorskip("torch")
    from supsup_models import MaskedNetwork
    from supsup_models.data import open_stream
    from supsup_models.training.recipes import RECIPES
    from supsup_models.training.task import train_task

    recipe = RECIPES["paper"]
    model = MaskedNetwork("lenet-300-100", inputs=784, outputs=100, seed=0, weight_gain=recipe.weight_gain)
    stream = open_stream("rotated-mnist", tasks=TASKS, seed=0, data=Path(os.environ["MASKSTORE_DATA"]))
    trained, earlier = [], MaskMatrix(model.spec)
    for index in range(TASKS):
        scores = 0 if start == "same scores" else index
        transfer = earlier if start == "transfer" else None
        data = stream[index].train
        found = train_task(model, data, recipe, task=scores, steps=BATCHES, transfer=transfer)
        trained.append((found.mask, Uniform() if transfer is not None and index else found.prior))
        earlier.append(f"task-{index}", found.mask)
    sizes = {}
    for way in ("none", "prior", "reference", "mean"):
        with MaskBank.create(tmp_path / f"{way}.bank", model.spec) as bank:
            for index, (mask, prior) in enumerate(trained):
                known = model.prior(0 if start == "same scores" else index) if way != "none" else prior
                if way == "reference" and index:
                    known = Reference("task-0", given=known)
                if way == "mean" and index >= 3:
                    known = RunningMean(("task-0", "task-1", "task-2"), given=known)
                bank.put(f"task-{index}", mask, prior=known)
        sizes[way] = file_bits(bank.path)
    single = {}
    for path, together in ((tmp_path / "none.bank", False), (tmp_path / "prior.bank", True)):
        with pytest.MonkeyPatch.context() as patch:
            if not together:
                patch.setattr("maskstore.bank.compaction._relations", lambda bank: {})
            compact(path)
        single[together] = file_bits(path)
    print(f"\n{TASKS} rotated tasks, {start}: fast, each alone {sizes['none']:.4f} bits a parameter; knowing the seed "
          f"{sizes['prior']:.4f}; against the first {sizes['reference']:.4f}; against three {sizes['mean']:.4f}; max, "
          f"each alone {single[False]:.4f}, together {single[True]:.4f}")  # fmt: skip
    assert single[True] <= single[False]
