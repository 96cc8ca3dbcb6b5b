"""Ways to teach a pretrained network a task, plainly written: what is trained, and the bytes that a task then needs.

All have the same images in the same order, the same number of steps, Adam along a cosine, and a new head that starts at
zero. Numbers are counted in 16 bits. Full fine-tuning normalises by the statistics of the batch; the others keep the
backbone's statistics, as masks do, because each was the better so on the tuning tasks.

- **probe**: the head alone, on features of the backbone as it came.
- **bitfit**: all biases (Ben Zaken et al., "BitFit", ACL 2022); here those of normalisation layers, the only ones.
- **norm**: weights and biases of normalisation layers.
- **lora**: W + B A of rank 4 for every convolution that mixes channels, whose weight is taken as a matrix
  `(out, in * kernel)` (Hu et al., "LoRA", ICLR 2022), with norm's parameters.
- **vera**: as lora, W + diag(b) B diag(d) A, where A and B of rank 64 are drawn from a seed and only the vectors b and
  d are trained (Kopiczko et al., "VeRA", ICLR 2024).
- **full**: everything.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from benchmarks.backbone.tasks import CLASSES, BackboneTask, backbone, open_task

BATCH, STEPS, RANK, SEEDED_RANK = 16, 60, 4, 64
RATES = {"probe": 1e-2, "bitfit": 3e-3, "norm": 3e-3, "lora": 2e-3, "vera": 3e-3, "full": 1e-3}
HEAD_RATE = 1e-2
METHODS = tuple(RATES)
TITLES = {
    "probe": "linear probe",
    "bitfit": "BitFit",
    "norm": "normalisation only",
    "lora": f"LoRA, rank {RANK}",
    "vera": f"VeRA, rank {SEEDED_RANK}",
    "full": "full fine-tuning",
}


class LowRank(nn.Module):
    """W + B A, where only A and B are trained; B starts at zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows = weight.flatten(1)
        self.a = nn.Parameter(torch.randn(rank, rows.shape[1]) / rows.shape[1] ** 0.5)
        self.b = nn.Parameter(torch.zeros(rows.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).view_as(weight)


class SeededLowRank(nn.Module):
    """W + diag(b) B diag(d) A, where only b and d are trained; b starts at zero."""

    def __init__(self, weight: Tensor, rank: int, seed: int) -> None:
        super().__init__()
        rows, drawn = weight.flatten(1), torch.Generator().manual_seed(seed)
        self.register_buffer("a", torch.randn(rank, rows.shape[1], generator=drawn) / rows.shape[1] ** 0.5)
        self.register_buffer("b", torch.randn(rows.shape[0], rank, generator=drawn) / rank**0.5)
        self.of_rank = nn.Parameter(torch.full((rank, 1), 0.1))
        self.of_rows = nn.Parameter(torch.zeros(rows.shape[0], 1))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.of_rows * (self.b @ (self.of_rank * self.a))).view_as(weight)


def batches(task: BackboneTask, seed: int, steps: int, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as the backbone takes them and labels, the same for every method."""
    generator = torch.Generator().manual_seed(1000 * seed + task.number)
    for _ in range(steps):
        rows = torch.randint(len(task.labels), (size,), generator=generator)
        yield task.batch(task.images[rows]), task.labels[rows]


def accuracy(answer: Callable[[Tensor], Tensor], task: BackboneTask) -> float:
    """The fraction of test images that get the right label."""
    right = 0
    with torch.no_grad():
        for rows in torch.arange(len(task.test_labels)).split(100):
            logits = answer(task.batch(task.test_images[rows]))
            right += int((logits.argmax(dim=1) == task.test_labels[rows]).sum())
    return right / len(task.test_labels)


def parts_of(net: nn.Module, method: str) -> list[Tensor]:
    """What a method trains beside the head; all else of the network is frozen."""
    net.requires_grad_(False)
    if method == "probe":
        return []
    if method == "full":
        return [each for name, each in net.named_parameters() if not name.startswith("_fc.")]
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    trained: list[Tensor] = [part.bias for part in norms]
    if method != "bitfit":
        trained += [part.weight for part in norms]
    mixing = [part for part in net.modules() if isinstance(part, nn.Conv2d) and part.groups == 1]
    for seed, part in enumerate(mixing if method in ("lora", "vera") else ()):
        low = LowRank(part.weight, RANK) if method == "lora" else SeededLowRank(part.weight, SEEDED_RANK, seed)
        parametrize.register_parametrization(part, "weight", low)
        trained += list(low.parameters())
    return trained


def train(method: str, task: BackboneTask, seed: int, steps: int) -> dict[str, float]:
    """The accuracy of a method on a task, the bytes a task needs, and the processor time that training took."""
    torch.manual_seed(seed)
    net = backbone().to(memory_format=torch.channels_last)
    net._fc = nn.Linear(net._fc.in_features, CLASSES)
    trained = parts_of(net, method)
    for each in net._fc.parameters():
        nn.init.zeros_(each)
    statistics = [each for name, each in net.named_buffers() if "running" in name] if method == "full" else []
    net.train(method == "full")
    for each in (*net._fc.parameters(), *trained):
        each.requires_grad_()
    groups = [{"params": list(net._fc.parameters()), "lr": HEAD_RATE if method != "probe" else RATES["probe"]}]
    if trained:
        groups.append({"params": trained, "lr": RATES[method]})
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    began = process_time()
    for images, labels in batches(task, seed, steps):
        loss = F.cross_entropy(net(images.to(memory_format=torch.channels_last)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    seconds = process_time() - began
    net.eval()
    head = sum(each.numel() for each in net._fc.parameters())
    numbers = head + sum(each.numel() for each in trained) + sum(each.numel() for each in statistics)
    return {"accuracy": accuracy(net, task), "bytes": 2.0 * numbers, "seconds": seconds}


def remembered(cache: Path | None, key: str, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `work` gives; from the folder where it was given before, so that long comparisons go on where they ended."""
    path = None if cache is None else cache / f"{key.replace(' ', '-')}.json"
    if path is not None and path.exists():
        return dict(json.loads(path.read_text()))
    found = work()
    if path is not None:
        path.write_text(json.dumps(found))
    return found


def trained_once(cache: Path | None, method: str, name: str, seed: int, steps: int) -> dict[str, float]:
    """`train`, remembered."""
    return remembered(cache, f"{method}-{name}-{seed}-{steps}", lambda: train(method, open_task(name), seed, steps))
