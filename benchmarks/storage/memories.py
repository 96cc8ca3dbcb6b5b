"""Hopfield memories: bytes of Ψ in several precisions and of the dual form, beside the masks that they hold.

Ψ has a coupling for every pair of bits, so it is built over neuron masks, one bit a hidden neuron (Wortsman et al.
2020, section 3.5); over weight masks only the forms that keep the patterns themselves can be. Accuracies are those of
the masks, not of what is recalled; docs/hopfield.md has the recoveries.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from benchmarks.storage.banks import measure_bank
from benchmarks.storage.cases import SEED, Case, Place, recipe_settings
from benchmarks.storage.formats import packed
from benchmarks.storage.judged import StoredMask, trained
from benchmarks.storage.methods import RECIPES_SHOWN
from benchmarks.storage.results import Row
from hopfield import DenseAssociativeMemory, DualMemory, HopfieldNetwork, PseudoInverse, QuantizedNetwork
from hopfield import patterns as pt
from hopfield.errors import CapacityWarning
from maskstore import MaskMatrix
from maskstore.priors import Uniform
from supsup_models.data.streams import open_stream
from supsup_models.experiments.baselines.base import SEED_BYTES
from supsup_models.hopsupsup import NeuronMaskedNetwork, accuracy, train_neuron_mask
from supsup_models.hopsupsup.setups import SETUPS

WIDTH = 1024
SETUP = SETUPS["search"]


@dataclass(frozen=True)
class Held:
    """Masks that a memory holds: of neurons or of weights."""

    matrix: MaskMatrix
    masks: tuple[StoredMask, ...]
    meta: Mapping[str, Any]
    parameters: int
    accuracy: float


@cache
def neuron_masks(case: Case, place: Place) -> Held:
    """Masks over the hidden neurons of a network of two hidden layers of `WIDTH`."""
    stream = open_stream(case.stream, tasks=case.tasks, seed=SEED, data=place.data)
    model = NeuronMaskedNetwork(
        (stream.inputs, WIDTH, WIDTH, stream.classes), seed=SEED, output_gain=SETUP.output_gain, gate=SETUP.gate
    )
    matrix, right = MaskMatrix(model.spec), []
    for index, task in enumerate(stream):
        matrix.append(task.name, train_neuron_mask(model, task.train, SETUP.training, seed=index))
        right.append(accuracy(model, task.test, matrix[index]))
    masks = tuple(StoredMask(name, matrix[name], {}, Uniform(), {}) for name in matrix.names)
    parameters = sum(prod(weight.shape) for weight in model.buffers())
    return Held(matrix, masks, {"widths": list(model.widths), "seed": SEED}, parameters, float(np.mean(right)))


@cache
def weight_masks(case: Case, place: Place) -> Held:
    """Masks over the weights, by the paper's recipe."""
    found = trained(case, "paper", RECIPES_SHOWN["paper"], place)
    matrix = MaskMatrix(found.spec, [each.mask for each in found.masks], [each.name for each in found.masks])
    return Held(matrix, found.masks, found.meta, found.spec.bits, found.accuracy.given)


Bytes = Callable[[Held], dict[str, int]]


def _couplings(precision: str | None) -> Bytes:
    def measure(held: Held) -> dict[str, int]:
        signs = pt.from_matrix(held.matrix)
        network = HopfieldNetwork(held.matrix.spec.bits, PseudoInverse(), centre=signs.mean(0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CapacityWarning)
            network.store(signs)
        memory = network if precision is None else QuantizedNetwork.of(network, precision)  # type: ignore[arg-type]
        return {"memory": memory.nbytes, "seed": SEED_BYTES}

    return measure


def _dual(held: Held) -> dict[str, int]:
    return {"memory": DualMemory(held.matrix, PseudoInverse()).nbytes, "seed": SEED_BYTES}


def _associative(held: Held) -> dict[str, int]:
    return {"memory": DenseAssociativeMemory(held.matrix).nbytes, "seed": SEED_BYTES}


def _packed(held: Held) -> dict[str, int]:
    return {"masks": sum(len(packed(each.mask)) for each in held.masks), "seed": SEED_BYTES}


def _bank(level: str) -> Bytes:
    return lambda held: measure_bank(held.matrix.spec, held.meta, held.masks, level=level, runs=1)[0]


@dataclass(frozen=True)
class Memory:
    """One way to keep masks, over one kind of them."""

    title: str
    kind: str
    """ "neuron masks" or "weight masks"."""
    bytes: Bytes

    def config(self, case: Case) -> dict[str, Any]:
        """The case, and how the masks were trained."""
        recipe = recipe_settings("paper") if self.kind == "weight masks" else {"width": WIDTH, "setup": "search"}
        return {**case.to_json(), "masks": self.kind, "recipe": recipe}

    def measure(self, case: Case, place: Place) -> Row:
        """Bytes; and the accuracy of the masks that are held."""
        held = (neuron_masks if self.kind == "neuron masks" else weight_masks)(case, place)
        notes = {"masks": self.kind, "mask_bits": held.matrix.spec.bits}
        return Row(self.title, "memory", self.bytes(held), case.tasks, held.parameters, held.accuracy, notes=notes)


_OVER_NEURONS = {
    "psi-float32": ("Ψ, projection rule, float32, half of it stored", _couplings(None)),
    "psi-int8": ("Ψ, int8", _couplings("int8")),
    "psi-one-bit": ("Ψ, one bit", _couplings("one-bit")),
}
_OVER_BOTH = {
    "dual": ("dual form, projection rule", _dual),
    "associative": ("dense associative memory", _associative),
    "packed": ("no memory: the masks, bit-packed", _packed),
    "bank": ("no memory: a bank, codec auto", _bank("fast")),
    "bank-max": ("no memory: a bank, compacted at level max", _bank("max")),
}
MEMORIES: Mapping[str, Memory] = {
    **{
        f"neurons-{name}": Memory(title, "neuron masks", make)
        for name, (title, make) in {**_OVER_NEURONS, **_OVER_BOTH}.items()
    },
    **{f"weights-{name}": Memory(title, "weight masks", make) for name, (title, make) in _OVER_BOTH.items()},
}
