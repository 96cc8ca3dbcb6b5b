"""Checks that hold for every kind of model: what one call gives, any number of threads and processes get.

`SUBJECTS` has the kinds of models, `WAYS` the ways to call one under a mask. `wrong_in_threads` and
`wrong_in_processes` count the answers that differ from those of single calls. Tests ask for few calls, the long check
(`python -m tests.helpers.model_checks`) for 1000 in each of 8 threads.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from maskstore import Mask, MaskMatrix
from supsup_models import ConvertedModel, MaskedModel, MaskedNetwork, convert, serve
from supsup_models.inference import MaskServer
from supsup_models.networks import MultilayerPerceptron

MASKS = 8


class ConvNet(nn.Module):
    """A residual block with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.stem(x)))
        x = x + torch.relu(self.bn2(self.conv(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class Transformer(nn.Module):
    """Two layers of a Transformer over six steps, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 16)
        layer = nn.TransformerEncoderLayer(16, nhead=2, dim_feedforward=24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embed(x), mask=mask).mean(dim=1))
        return logits


@dataclass(frozen=True)
class Subject:
    """A model, masks of it with their statistics (none where it has none), and inputs."""

    model: MaskedModel
    masks: tuple[Mask, ...]
    extras: tuple[dict[str, Tensor] | None, ...]
    inputs: Tensor

    def served(self) -> MaskServer:
        """A server of the masks."""
        matrix = MaskMatrix(self.model.spec)
        for number, mask in enumerate(self.masks):
            matrix.append(str(number), mask)
        extras = {
            str(number): {name: value.numpy() for name, value in own.items()}
            for number, own in enumerate(self.extras)
            if own is not None
        }
        return serve(self.model, matrix, extras=extras)


Way = Callable[[Subject, int], Tensor]


def called(subject: Subject, mask: int) -> Tensor:
    """The answers under a mask that is an argument."""
    extras = subject.extras[mask]
    given = {} if extras is None else {"extras": extras}
    answers: Tensor = subject.model(subject.inputs, subject.masks[mask], **given)
    return answers


def bound(subject: Subject, mask: int) -> Tensor:
    """The answers of the model bound to a mask."""
    assert isinstance(subject.model, ConvertedModel)
    answers: Tensor = subject.model.bind(subject.masks[mask], subject.extras[mask])(subject.inputs)
    return answers


def in_block(subject: Subject, mask: int) -> Tensor:
    """The answers inside a block that applies a mask."""
    assert isinstance(subject.model, ConvertedModel)
    with subject.model.apply_mask(subject.masks[mask], subject.extras[mask]) as model:
        answers: Tensor = model(subject.inputs)
    return answers


def exported(subject: Subject, mask: int) -> Tensor:
    """The answers of a plain module with the mask in its weights."""
    assert isinstance(subject.model, ConvertedModel | MaskedNetwork)
    answers: Tensor = subject.model.export(subject.masks[mask], subject.extras[mask])(subject.inputs)
    return answers


WAYS: Mapping[str, Way] = {"called": called, "bound": bound, "in a block": in_block}


def _subject(model: MaskedModel, inputs: Tensor) -> Subject:
    masks = tuple(model.mask_of(model.initial_scores(0) - 0.01 * number) for number in range(MASKS))
    if len(set(masks)) < MASKS:  # kept weights start from the full network
        noise = torch.Generator().manual_seed(0)
        masks = tuple(model.mask_of(torch.randn(model.spec.bits, generator=noise)) for _ in range(MASKS))
    starts, extras = model.initial_statistics(), []
    for number in range(MASKS):
        extras.append({name: value + 0.1 * number for name, value in starts.items()} or None)
    return Subject(model, masks, tuple(extras), inputs)


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _perceptron() -> Subject:
    arch = MultilayerPerceptron("small", hidden=(16, 12))
    return _subject(MaskedNetwork(arch, inputs=20, outputs=5, seed=0), _images(3, 20))


def _pretrained(build: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = build()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part(torch.randn(4, part.num_features, 3, 3))
    return module.eval()


def _converted(build: type[nn.Module], *shape: int, **options: Any) -> Subject:
    return _subject(convert(_pretrained(build), image_shape=shape, **options), _images(3, *shape))


SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "MaskedNetwork": _perceptron,
    "converted perceptron": lambda: _subject(
        convert(MultilayerPerceptron("small", hidden=(16, 12)).module(20, 5), image_shape=(20,)), _images(3, 20)
    ),
    "converted CNN with batch norm": lambda: _converted(ConvNet, 1, 8, 8, mask="edge-popup", density=0.5),
    "Transformer": lambda: _converted(Transformer, 6, 4),
    "kept weights": lambda: _converted(ConvNet, 1, 8, 8, weights="keep"),
}


@cache
def subject(name: str) -> Subject:
    """The model of a kind."""
    return SUBJECTS[name]()


def ways_of(subject: Subject) -> Mapping[str, Way]:
    """The ways in which a model can be called under a mask."""
    return WAYS if isinstance(subject.model, ConvertedModel) else {"called": called}


def expected(subject: Subject) -> list[Tensor]:
    """The answers of single calls, one after another, which all ways must give."""
    with torch.no_grad():
        return [called(subject, mask) for mask in range(MASKS)]


def wrong_in_threads(subject: Subject, way: Way, *, threads: int = 8, calls: int = 40) -> int:
    """How many of `threads * calls` concurrent answers differ from those of single calls. An error is raised."""
    right = expected(subject)

    def work(first: int) -> int:
        wrong = 0
        with torch.no_grad():
            for number in range(calls):
                mask = (first + number) % MASKS
                wrong += not torch.equal(way(subject, mask), right[mask])
        return wrong

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def leaks(subject: Subject, run: Callable[[], object]) -> list[str]:
    """The names in the model's state dict, and in its module's attributes, that differ after a run."""
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    run()
    after = subject.model.state_dict()
    changed = [name for name in before if name not in after or not torch.equal(before[name], after[name])]
    return changed + sorted(after.keys() - before.keys())


def wrong_in_processes(names: Sequence[str], *, start: str = "spawn", processes: int = 2, calls: int = MASKS) -> int:
    """As `wrong_in_threads`, in processes to which the models were sent; `calls` of each.

    Each process begins with `torch.set_num_threads(1)`, as those of a `DataLoader` do: the threads of torch's own
    pool do not live on in a forked process, which would wait for them for ever.
    """
    right = {name: [answers.numpy() for answers in expected(subject(name))] for name in names}
    with ProcessPoolExecutor(
        processes, mp_context=get_context(start), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        jobs = [(name, mask % MASKS) for name in names for mask in range(calls)]
        found = [pool.submit(_answers, subject(name), mask) for name, mask in jobs]
        return sum(
            int((job.result() != right[name][mask]).any()) for job, (name, mask) in zip(found, jobs, strict=True)
        )


class _InWorkers(Dataset[Tensor]):
    """The answers under each mask, computed where the data set was sent to."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def __len__(self) -> int:
        return MASKS

    def __getitem__(self, mask: int) -> Tensor:
        with torch.no_grad():
            return called(self._subject, mask)


def wrong_in_workers(name: str, *, start: str = "spawn", workers: int = 2) -> int:
    """As `wrong_in_threads`, in the workers of a `DataLoader` whose data set holds the model."""
    right = expected(subject(name))
    loader = DataLoader(_InWorkers(subject(name)), None, num_workers=workers, multiprocessing_context=start)
    return sum(not torch.equal(answers, right[mask]) for mask, answers in enumerate(loader))


def _answers(subject: Subject, mask: int) -> Any:
    with torch.no_grad():
        return called(subject, mask).numpy()


def main() -> None:
    """The long check: a line for each kind of model and each way to call it."""
    for name in SUBJECTS:
        model = subject(name)
        server = model.served()
        served: Way = lambda subject, mask: server(subject.inputs.flatten(1), str(mask))  # noqa: B023, E731
        for way, call in {**ways_of(model), "served": served}.items():
            found: list[int] = []
            changed = leaks(model, lambda call=call: found.append(wrong_in_threads(model, call, calls=1000)))  # noqa: B023
            print(
                f"{name}, {way}: {found[0]} wrong answers of 8000, {len(changed)} changes of the state dict", flush=True
            )
    for start in ("spawn", "fork", "forkserver"):
        wrong = wrong_in_processes(tuple(SUBJECTS), start=start, calls=200)
        print(f"processes ({start}): {wrong} wrong answers of {200 * len(SUBJECTS)}", flush=True)
    print(f"DataLoader workers (spawn): {wrong_in_workers('converted CNN with batch norm')} wrong answers of {MASKS}")


if __name__ == "__main__":
    main()
