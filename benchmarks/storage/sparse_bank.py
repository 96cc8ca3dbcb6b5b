"""A small bank of sparse masks: LeNet-300-100, recipe `default` at half its density, a few tasks of permuted MNIST.

The smaller a mask, the more a coder's tables and headers weigh, and the more there is to learn of rows and columns.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.storage.cases import MODEL, OUTPUTS, SEED, Place
from benchmarks.storage.judged import StoredMask
from maskstore import MaskBank
from maskstore.priors import prior_from_config
from supsup_models import RECIPES
from supsup_models.data.streams import open_stream
from supsup_models.training.many import train_many
from supsup_models.training.recipes import Recipe
from supsup_models.training.task import NumberedTask


@dataclass(frozen=True)
class SparseCase:
    """What the masks are trained on."""

    stream: str = "permuted-mnist"
    tasks: int = 5
    batches: int = 1000
    density: float = 0.025

    def to_json(self) -> dict[str, Any]:
        """What results depend on."""
        return {**asdict(self), "model": MODEL, "outputs": OUTPUTS, "seed": SEED}

    @property
    def recipe(self) -> Recipe:
        """The recipe `default` at this density."""
        default = RECIPES["default"]
        assert default.sparse is not None
        return replace(default, sparse=replace(default.sparse, density=self.density))


def sparse_masks(case: SparseCase, place: Place) -> list[StoredMask]:
    """The masks of a case; trained once, and kept in the runs' folder."""
    path = place.runs / f"sparse-{case.stream}-{case.tasks}-{case.batches}-{case.density}" / "masks.bank"
    if not path.exists():
        stream = open_stream(case.stream, tasks=case.tasks, seed=SEED, data=place.data)
        model = case.recipe.network(MODEL, inputs=stream.inputs, outputs=OUTPUTS, classes=stream.classes, seed=SEED)
        numbered = [NumberedTask(task.index, task.train) for task in stream]
        trained = list(train_many(model, numbered, case.recipe, steps=case.batches))
        path.parent.mkdir(parents=True, exist_ok=True)
        with MaskBank.create(path, model.spec) as bank, bank.transaction():
            for task, result in zip(stream, trained, strict=True):
                bank.put(task.name, result.mask, prior=result.prior)
    with MaskBank.open(path) as bank:
        return [StoredMask(info.name, bank[info.name], {}, prior_from_config(info.prior), {}) for info in bank.infos()]
