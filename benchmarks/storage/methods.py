"""Every method of the tables, by name: how to get from a case to a row.

A new training recipe is one more line in `RECIPES_SHOWN`: its masks are trained, judged and stored at both levels.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from benchmarks.storage.banks import measure_bank
from benchmarks.storage.baselines import measure_baseline
from benchmarks.storage.cases import Case, Place, recipe_settings
from benchmarks.storage.clock import timed
from benchmarks.storage.formats import FORMATS
from benchmarks.storage.judged import trained
from benchmarks.storage.results import Row
from supsup_models.experiments.baselines import PSP, Baseline, BaselineConfig, BatchE, SeparateHeads, UpperBound
from supsup_models.experiments.baselines.base import SEED_BYTES
from supsup_models.inference.scenarios import Inference

RECIPES_SHOWN = {
    "paper": Inference("one-shot", "H"),
    "dense": Inference("one-shot", "H"),
    "default": Inference("one-shot", "G"),
}
"""Training recipes, and how the task of each image is inferred."""
LEVELS = {"": "fast", "-max": "max"}
"""What follows the recipe in a method's name, and the level of its codecs."""


class Method(Protocol):
    """Something that is measured on a case."""

    def config(self, case: Case) -> dict[str, Any]:
        """Everything that the row depends on."""

    def measure(self, case: Case, place: Place) -> Row:
        """The row."""


class Ours:
    """Masks by a recipe in a bank file."""

    def __init__(self, recipe: str, level: str) -> None:
        self.recipe, self.level = recipe, level

    def config(self, case: Case) -> dict[str, Any]:
        """The case, the recipe and the level."""
        settings = {"recipe": recipe_settings(self.recipe), "inference": asdict(RECIPES_SHOWN[self.recipe])}
        return {**case.to_json(), **settings, "level": self.level}

    def measure(self, case: Case, place: Place) -> Row:
        """The file, metadata and index included; the network is the seed in it."""
        masks = trained(case, self.recipe, RECIPES_SHOWN[self.recipe], place)
        parts, encoding, decoding, notes = measure_bank(masks.spec, masks.meta, masks.masks, level=self.level)
        how = "compacted at level max" if self.level == "max" else "codec auto"
        inference = RECIPES_SHOWN[self.recipe]
        if inference != Inference("one-shot", "H"):
            how += f"; inferred by {inference.method} with {inference.objective}"
        return Row(
            f"ours: recipe {self.recipe}, {how}",
            "ours",
            parts,
            case.tasks,
            masks.spec.bits,
            masks.accuracy.given,
            masks.accuracy.inferred,
            masks.accuracy.task,
            encoding,
            decoding,
            notes,
        )


class OtherFormat:
    """The masks of the paper's recipe in another format; the network is its seed."""

    recipe = "paper"

    def __init__(self, name: str) -> None:
        self.format = FORMATS[name]

    def config(self, case: Case) -> dict[str, Any]:
        """The case and the recipe."""
        settings = {"recipe": recipe_settings(self.recipe), "inference": asdict(RECIPES_SHOWN[self.recipe])}
        return {**case.to_json(), **settings}

    def measure(self, case: Case, place: Place) -> Row:
        """Coded, decoded, compared."""
        found = trained(case, self.recipe, RECIPES_SHOWN[self.recipe], place)
        masks = [each.mask for each in found.masks]
        coded, encoding = timed(lambda: self.format.encode(masks))
        decoded, decoding = timed(lambda: self.format.decode(coded, found.spec))
        assert decoded == masks, f"{self.format.title}: a mask did not come back"
        return Row(
            self.format.title,
            "format",
            {**self.format.size(coded), "seed": SEED_BYTES},
            case.tasks,
            found.spec.bits,
            found.accuracy.given,
            found.accuracy.inferred,
            found.accuracy.task,
            encoding,
            decoding,
        )


class Trained:
    """A baseline that learns numbers, not masks; a number takes 4 bytes."""

    def __init__(self, make: Callable[[BaselineConfig], Baseline], title: str) -> None:
        self.make, self.title = make, title

    def config(self, case: Case) -> dict[str, Any]:
        """The case."""
        return case.to_json()

    def measure(self, case: Case, place: Place) -> Row:
        """Trained on the same batches, judged on the same images."""
        return measure_baseline(self.make, self.title, case, place)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        **{f"{recipe}{suffix}": Ours(recipe, level) for recipe in RECIPES_SHOWN for suffix, level in LEVELS.items()},
        **{name: OtherFormat(name) for name in FORMATS},
        "batche-trained": Trained(partial(BatchE, trained_weights=True), "BatchE, trained W"),
        "batche-random": Trained(partial(BatchE, trained_weights=False), "BatchE, random W"),
        "psp": Trained(PSP, "PSP"),
        "heads-trained": Trained(partial(SeparateHeads, trained_trunk=True), "separate heads, trained trunk"),
        "heads-random": Trained(partial(SeparateHeads, trained_trunk=False), "separate heads, random trunk"),
        "networks": Trained(UpperBound, "one network a task, float32"),
    }
)
