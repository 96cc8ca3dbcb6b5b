"""What can be measured, by the name that the command and the results file have."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.storage import cases
from benchmarks.storage.imagenet import IMAGENET, ImageNetCase
from benchmarks.storage.memories import MEMORIES
from benchmarks.storage.methods import METHODS
from benchmarks.storage.pruned import PRUNED, PrunedCase
from benchmarks.storage.sparse_bank import SPARSE, SparseCase


@dataclass(frozen=True)
class Suite:
    """A case and the methods that are measured on it."""

    name: str
    case: Any
    methods: Mapping[str, Any]


def _suites(
    streams: Mapping[str, cases.Case],
    memories: cases.Case,
    imagenet: ImageNetCase,
    sparse: SparseCase,
    pruned: PrunedCase,
) -> Mapping[str, Suite]:
    found = [Suite(name, case, METHODS) for name, case in streams.items()]
    found += [Suite("memories", memories, MEMORIES), Suite("resnet-50", imagenet, IMAGENET)]
    found += [Suite("sparse-bank", sparse, SPARSE), Suite("pruned-1b", pruned, PRUNED)]
    return MappingProxyType({suite.name: suite for suite in found})


FULL = _suites(cases.FULL, cases.FULL["permuted-mnist"], ImageNetCase(), SparseCase(), PrunedCase())
QUICK = _suites(
    cases.QUICK,
    cases.QUICK["permuted-digits"],
    ImageNetCase(coded=1),
    SparseCase("permuted-digits", tasks=2, batches=50),
    PrunedCase(width=256, hidden=512, keys=64),
)
