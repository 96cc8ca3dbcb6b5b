"""A small bank of sparse masks: LeNet-300-100, recipe `default` at half its density, a few tasks of permuted MNIST.

The smaller a mask, the more a coder's tables and headers weigh, and the more there is to learn of rows and columns.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from types import MappingProxyType
from typing import Any

from benchmarks.storage.banks import measure_bank
from benchmarks.storage.cases import MODEL, OUTPUTS, SEED, Place
from benchmarks.storage.clock import RUNS, timed
from benchmarks.storage.entropies import iid_bits
from benchmarks.storage.formats import FORMATS, measure_format
from benchmarks.storage.judged import StoredMask
from benchmarks.storage.optional import OPTIONAL
from benchmarks.storage.results import LeftOutError, Row
from maskstore import Mask, MaskBank, MaskSpec
from maskstore.bank import Record, decode_mask, encode_data
from maskstore.priors import Prior, Uniform, prior_from_config, prior_to_json
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


@dataclass(frozen=True)
class Coded:
    """Ours without a file: what a row of a bank has for a mask, offset table and checksums of layers included."""

    codec: str
    seeded: bool

    def row(self, case: SparseCase, masks: list[StoredMask]) -> Row:
        """Coded, decoded, compared."""
        spec, priors = masks[0].mask.spec, [each.prior if self.seeded else Uniform() for each in masks]
        coded, encoding = timed(
            lambda: [_code(each.mask, self.codec, prior) for each, prior in zip(masks, priors, strict=True)]
        )
        found, decoding = timed(
            lambda: [_decode(*each, spec, prior) for each, prior in zip(coded, priors, strict=True)]
        )
        assert found == [each.mask for each in masks], "a mask did not come back"
        title = f"ours, codec {self.codec}{', given the seed' if self.seeded else ''}"
        parts = {"masks": sum(len(data) for _, data in coded)}
        return Row(title, "ours", parts, case.tasks, spec.bits, encode_seconds=encoding, decode_seconds=decoding)


def _code(mask: Mask, codec: str, prior: Prior) -> tuple[str, bytes]:
    how, data = encode_data(mask, codec, prior)
    return how, data[:]


def _decode(how: str, data: bytes, spec: MaskSpec, prior: Prior) -> Mask:
    return decode_mask(Record(0, "", "{}", how, prior_to_json(prior), data=data), spec)


@dataclass(frozen=True)
class WholeFile:
    """Ours as a bank file, seeds, names, index and unfilled pages included."""

    level: str

    def row(self, case: SparseCase, masks: list[StoredMask]) -> Row:
        """The closed file."""
        spec = masks[0].mask.spec
        parts, encoding, decoding, _ = measure_bank(spec, {"seed": SEED}, masks, level=self.level)
        how = "compacted at level max" if self.level == "max" else "codec auto"
        return Row(f"ours, whole file, {how}", "ours", parts, case.tasks, spec.bits,
                   encode_seconds=encoding, decode_seconds=decoding)  # fmt: skip


@dataclass(frozen=True)
class Other:
    """One of the formats of other people."""

    name: str

    def row(self, case: SparseCase, masks: list[StoredMask]) -> Row:
        """LeftOutError where it is not installed."""
        optional = OPTIONAL.get(self.name)
        if optional is not None and optional.why_absent:
            raise LeftOutError(optional.why_absent)
        form, plain = optional.format if optional else FORMATS[self.name], [each.mask for each in masks]
        slow = optional is not None and optional.program
        parts, encoding, decoding = measure_format(form, plain, runs=1 if slow else RUNS)
        if slow:  # the clock does not see what other processes do
            encoding = decoding = None
        return Row(form.title, "format", parts, case.tasks, plain[0].spec.bits,
                   encode_seconds=encoding, decode_seconds=decoding)  # fmt: skip


class Entropy:
    """What independent bits of each layer's density would need: the bound of every coder that knows only these."""

    def row(self, case: SparseCase, masks: list[StoredMask]) -> Row:
        """No bytes for tables."""
        total = ceil(sum(iid_bits(each.mask) for each in masks) / 8)
        spec = masks[0].mask.spec
        return Row("entropy of independent bits, layer by layer", "bound", {"masks": total}, case.tasks, spec.bits)


_WAYS: Mapping[str, Any] = {
    "mix-seed": Coded("mix", True),
    "auto-seed": Coded("auto", True),
    "mix": Coded("mix", False),
    "auto": Coded("auto", False),
    "file-max": WholeFile("max"),
    "file": WholeFile("fast"),
    "entropy": Entropy(),
    **{name: Other(name) for name in (*OPTIONAL, *FORMATS)},
}


class SparseMethod:
    """A way to store the bank."""

    def __init__(self, name: str) -> None:
        self.name = name

    def config(self, case: SparseCase) -> dict[str, Any]:
        """The case."""
        return case.to_json()

    def measure(self, case: SparseCase, place: Place) -> Row:
        """The row; the masks are trained first if they are not there."""
        row: Row = _WAYS[self.name].row(case, sparse_masks(case, place))
        return row


SPARSE: Mapping[str, SparseMethod] = MappingProxyType({name: SparseMethod(name) for name in _WAYS})
