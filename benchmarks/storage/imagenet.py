"""The paper's SplitImageNet table without its data: ResNet-50, 100 tasks, random masks of the published sizes.

Wortsman et al. 2020, table 1, gives 195.18, 100.98 and 65.50 MB (10^6 bytes) for 100 tasks, stored as sparse matrices
with 16-bit indices and normalisation statistics. Their densities are worked out from that: in CSR a kept weight takes 2
bytes, a row (an output channel) 4 for its end, and a task's statistics two float32 for each normalised channel, so

    kept weights of one task = (megabytes * 10^6 / 100 - 4 * rows - 8 * channels) / 2.

The network has 1000 outputs: the table's upper bound, 10 222.81 MB for 100 networks, is 25 557 032 float32 each. Every
layer keeps the same share, at random positions: of such a mask nothing is known but its density, and no coder can go
below the entropy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from math import ceil, lgamma, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.storage.banks import measure_bank
from benchmarks.storage.cases import SEED, Place
from benchmarks.storage.clock import timed
from benchmarks.storage.formats import FORMATS
from benchmarks.storage.judged import StoredMask
from benchmarks.storage.results import Row
from maskstore import Mask, MaskSpec
from maskstore.priors import Uniform
from supsup_models.experiments.baselines.base import FLOAT_BYTES, SEED_BYTES
from supsup_models.networks.resnet import resnet_50
from supsup_models.networks.sparsity import erdos_renyi, kept_weights

PUBLISHED = {"195.18": 0.8958, "100.98": 0.8868, "65.50": 0.8637}
"""Megabytes of 100 tasks, and the accuracy that they were published with."""
INDEX_BYTES, END_BYTES = 2, 4
PUBLIC_EPSILONS = (4, 8, 16)
"""The Erdős-Rényi budgets that the public code says the table was made with."""


@dataclass(frozen=True)
class ImageNetCase:
    """How many tasks are counted, and how many are really put into the bank; other formats code one."""

    tasks: int = 100
    coded: int = 100

    def to_json(self) -> dict[str, Any]:
        """What results depend on."""
        return {**asdict(self), "seed": SEED}


@cache
def resnet() -> tuple[MaskSpec, tuple[int, ...]]:
    """The masked layers of ResNet-50, and the channels of each of its normalisations."""
    network = resnet_50()
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters() if weight.ndim > 1}
    means = [len(buffer) for name, buffer in network.named_buffers() if name.endswith("running_mean")]
    return MaskSpec(shapes), tuple(means)


def statistics_bytes() -> int:
    """Running means and variances of one task."""
    return 2 * FLOAT_BYTES * sum(resnet()[1])


def other_bytes() -> int:
    """What one task takes in CSR beside its indices: row ends and statistics."""
    return END_BYTES * sum(layer.shape[0] for layer in resnet()[0]) + statistics_bytes()


def density_of(megabytes: str) -> float:
    """The share of weights that the published size leaves room for."""
    return (float(megabytes) * 1e6 / 100 - other_bytes()) / INDEX_BYTES / resnet()[0].bits


def megabytes_of(epsilon: float) -> float:
    """What 100 tasks would take in CSR under Erdős-Rényi densities, capped at one half, as the public code has them."""
    spec, _ = resnet()
    densities = erdos_renyi(spec.shapes, epsilon)
    kept = sum(kept_weights(layer.size, densities[layer.name]) for layer in spec)
    return 100 * (INDEX_BYTES * kept + other_bytes()) / 1e6


def popup_masks(density: float, count: int) -> Iterator[StoredMask]:
    """Masks that keep exactly the same share of every layer, with random statistics."""
    spec, channels = resnet()
    for task in range(count):
        rng = np.random.default_rng([SEED, task])
        flat = np.zeros(spec.bits, dtype=bool)
        for layer in spec:
            kept = rng.choice(layer.size, kept_weights(layer.size, density), replace=False, shuffle=False)
            flat[layer.flat_start + kept] = True
        yield StoredMask(f"task-{task}", Mask.from_flat(flat, spec), {}, Uniform(), _statistics(rng, channels))


def entropy_bits(density: float) -> float:
    """Of one mask that keeps a known number of each layer's weights, at equally likely places: sum of log2 C(n, k)."""
    counts = [(layer.size, kept_weights(layer.size, density)) for layer in resnet()[0]]
    return sum(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for n, k in counts) / log(2)


def _statistics(rng: np.random.Generator, channels: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    """One array of means and one of variances, all channels end to end: names would only cost bytes."""
    return {kind: rng.random(sum(channels), dtype=np.float32) for kind in ("means", "variances")}


@dataclass(frozen=True)
class Published:
    """One published size and one way to store its masks."""

    megabytes: str
    how: str
    """A name in `FORMATS`, "auto", or "entropy", which is no way but the bound."""

    def config(self, case: ImageNetCase) -> dict[str, Any]:
        """The case, the density, and how many tasks were really coded."""
        return {**case.to_json(), "density": density_of(self.megabytes), "coded": self._coded(case)}

    def _coded(self, case: ImageNetCase) -> int:
        return case.coded if self.how == "auto" else 1

    def measure(self, case: ImageNetCase, place: Place) -> Row:
        """Bytes of all tasks; where fewer were coded than there are, multiplied."""
        spec, _ = resnet()
        count = self._coded(case)
        density = density_of(self.megabytes)
        encoding = decoding = None
        if self.how == "entropy":
            group, title = "bound", "entropy of such masks"
            parts = {"masks": ceil(entropy_bits(density) / 8), "statistics": statistics_bytes()}
        elif self.how == "auto":
            group, title = "ours", "ours, codec auto"
            masks = list(popup_masks(density, count))
            parts, encoding, decoding, _ = measure_bank(spec, {"seed": SEED}, masks, level="fast", runs=1)
            statistics = count * statistics_bytes()
            parts = {**parts, "side": parts["side"] - statistics, "statistics": statistics}
        else:
            form = FORMATS[self.how]
            group, title = "format", form.title
            plain = [each.mask for each in popup_masks(density, count)]
            coded, encoding = timed(lambda: form.encode(plain), 1)
            decoded, decoding = timed(lambda: form.decode(coded, spec), 1)
            assert decoded == plain, f"{form.title}: a mask did not come back"
            parts = {**form.size(coded), "statistics": statistics_bytes()}
        times = case.tasks // count
        return Row(
            title,
            group,
            {**{name: times * size for name, size in parts.items()}, "seed": SEED_BYTES},
            case.tasks,
            spec.bits,
            encode_seconds=None if encoding is None else times * encoding,
            decode_seconds=None if decoding is None else times * decoding,
            notes={
                "published_megabytes": self.megabytes,
                "published_accuracy": PUBLISHED[self.megabytes],
                "density": density,
                "tasks_coded": count,
                "sizes": {
                    "weights": spec.bits,
                    "rows": sum(layer.shape[0] for layer in spec),
                    "channels": sum(resnet()[1]),
                },
                "erdos_renyi_megabytes": {str(epsilon): megabytes_of(epsilon) for epsilon in PUBLIC_EPSILONS},
            },
        )


HOWS = ("csr-16", "auto", "entropy", "bit-packing", "zstd", "roaring", "bitarray-sparse")
IMAGENET: Mapping[str, Published] = {
    f"{megabytes}-{how}": Published(megabytes, how) for megabytes in PUBLISHED for how in HOWS
}
