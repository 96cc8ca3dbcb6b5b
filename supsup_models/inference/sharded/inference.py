"""`ShardedInference`: one network, masks in many workers, one answer.

The network runs here. What all workers need is one vector g * W for a batch, or the layers' traces for images by
themselves (Wortsman et al. 2020, section 3.3; `superposition.py` and `per_image.py` have the formulas).
"""

import os
import pickle
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskstore import MaskMatrix, MaskSource, open_source
from maskstore.kernels import LANES
from supsup_models._names import check, whole_number
from supsup_models.data import checked_images
from supsup_models.errors import ArgumentError, ImageValueError, InferenceError
from supsup_models.inference.choice import check_method
from supsup_models.inference.given import check_spec
from supsup_models.inference.methods import one_shot
from supsup_models.inference.objectives import Objective, make_objective
from supsup_models.inference.per_image import LayerTrace, on_packed_bits, strongest, trace
from supsup_models.inference.sharded.part import UNIT, Best, Layer, Piece, Plan, merged
from supsup_models.inference.sharded.processes import ProcessWorkers
from supsup_models.inference.sharded.workers import Workers
from supsup_models.inference.superposition import expected_weights, mask_derivatives
from supsup_models.networks import Extras, MaskedModel, MaskedNetwork, check_model

METHODS = ("one-shot", "short-list")
_CHUNK = 1024  # images at a time, as in `infer_each`
Source = MaskMatrix | MaskSource | str | os.PathLike[str]


@dataclass(frozen=True)
class ShardedGuess:
    """The task of a batch, as inferred from the images alone.

    Attributes:
        task: The row among all masks; `inference.names[guess.task]` is the task's name.
        tasks: The best few rows, best first, `(n,)` int64.
        scores: Their scores, `(n,)` float32, as in `Guess`.
    """

    task: int
    tasks: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class ShardedGuesses:
    """The tasks of images, one for each.

    Attributes:
        tasks: Rows among all masks, `(b,)` int64.
        best: The best few rows of each image, best first, `(b, n)` int64.
        scores: Their scores, `(b, n)` float32, as in `Guesses`.
    """

    tasks: NDArray[np.int64]
    best: NDArray[np.int64]
    scores: NDArray[np.float32]


class ShardedInference:
    """Task inference over masks that lie in many workers: the answers of `TaskInference` over all of them, to the bit.

    The masks are numbered through the sources in their order. Each worker holds a run of rows. For a network of sparse
    masks (given densities) nothing is exchanged beforehand; for others each worker sends once how many of its masks set
    each bit. The masks are those that the sources had in the beginning.

    Answers are the same to the bit for networks on the CPU. For each image by itself, a converted network needs no more
    images than masks for that: each image is a vector g * W of its own.

    Args:
        model: The network.
        sources: A bank, shard, shard set or matrix, or where one is; or several. Workers open locations and open
            sources for themselves. A matrix is written once to a file of packed rows that the workers map. Names are
            distinct over all.
        workers: How many processes; or `RayWorkers`, `DistributedWorkers`, `LocalWorkers`.
        best: How many masks an answer names.
        threads: How many threads the kernels of a process use; None for as many as there are cores, which fits one
            process on each machine.

    Raises:
        ShapeError: The masks are of other layers than the network's.
        InferenceError: There is no mask, or a name comes twice.
        WorkerError: A process cannot be started.

    Examples:
        >>> import torch
        >>> from maskstore import MaskMatrix
        >>> from supsup_models import MaskedNetwork, infer_task
        >>> from supsup_models.inference import LocalWorkers, ShardedInference
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
        >>> matrix = MaskMatrix(model.spec)
        >>> for number in range(20):
        ...     matrix.append(f"task-{number}", model.mask_of(model.initial_scores(number)))
        >>> images = torch.rand(4, 64)
        >>> with ShardedInference(model, matrix, workers=LocalWorkers(2)) as inference:
        ...     guess = inference.infer(images)
        >>> one = infer_task(model, matrix, images)
        >>> guess.task == one.task, bool(guess.scores[0] == one.scores.max())
        (True, True)
    """

    def __init__(
        self,
        model: MaskedModel,
        sources: Source | Sequence[Source],
        workers: int | Workers = 2,
        *,
        best: int = 5,
        threads: int | None = 1,
    ) -> None:
        check_model(model)
        if whole_number("best", best) < 1:
            raise ArgumentError(f"best: expected 1 or more, found {best}")
        if not isinstance(workers, Workers):
            if whole_number("workers", workers) < 1:
                raise ArgumentError(f"workers: expected 1 or more, found {workers}")
            workers = ProcessWorkers(workers)
        several = isinstance(sources, Sequence) and not isinstance(sources, str)
        self._model, self._workers, self._best = model, workers, best
        self._layered = isinstance(model, MaskedNetwork) and model.device.type == "cpu"
        self._total: NDArray[np.int32] | None = None
        self._stay = ExitStack()
        try:
            given: Sequence[Any] = list(sources) if several else [sources]  # type: ignore[arg-type]
            plans = self._plans(given, threads)
            self._stay.callback(workers.close)
            workers.start(plans)
            if not model.densities:
                found = workers.ask("counts")
                self._total = sum((counts for _, counts in found), np.zeros(model.spec.bits, dtype=np.int32))
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """The task of each row."""
        return self._names

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"ShardedInference({len(self)} masks of {self._model.spec.bits} bits, {self._workers.count} workers)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. Closing twice is fine."""
        self._stay.close()

    def infer(self, images: Any, *, method: str = "one-shot", objective: str | None = None) -> ShardedGuess:
        """The task of images that are all of one task.

        Args:
            images: As for `infer_task`.
            method: "one-shot"; "short-list", for fully connected networks alone, is the same here.
            objective: "H" or "G"; `model.objective` by default.

        Raises:
            UnknownNameError: There is no such method or objective.
            InferenceError: "short-list" in a converted network.
            ImageValueError: The images are too large for the network's arithmetic.
            WorkerError: A worker ended.
        """
        tensor, cost = self._taken(images, method, objective, each=False)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self._model.device.type, enabled=False):
            found = self._by_vectors([tensor], cost)
        return ShardedGuess(int(found.rows[0, 0]), found.rows[0], found.scores[0])

    def infer_each(self, images: Any, *, method: str = "one-shot", objective: str | None = None) -> ShardedGuesses:
        """The task of each image by itself; arguments and errors are those of `infer`.

        With "short-list", the workers first look for a few masks by a sketch, and the scores of those are then exact.
        """
        tensor, cost = self._taken(images, method, objective, each=True)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self._model.device.type, enabled=False):
            found = [self._of_each(chunk, method, cost) for chunk in tensor.split(_CHUNK)]
        rows, scores = (np.concatenate([getattr(one, name) for one in found]) for name in ("rows", "scores"))
        return ShardedGuesses(rows[:, 0].copy(), rows, scores)

    def _taken(self, images: Any, method: str, objective: str | None, *, each: bool) -> tuple[Tensor, Objective]:
        model = self._model
        check("inference method", method, METHODS)
        if method == "short-list" and not isinstance(model, MaskedNetwork):
            raise InferenceError(
                "short-list inference over workers: expected a fully connected network, found a converted one, whose "
                'masks each have to run; `method="one-shot"` works'
            )
        cost = make_objective(
            model.objective if objective is None else objective, classes=model.classes, outputs=model.outputs
        )
        with torch.inference_mode(False):
            tensor = checked_images(images, model)
            tensor = tensor.clone() if tensor.is_inference() else tensor
        if model.initial_statistics():
            check_method(model, method, self._names, {}, single_masks=False, alone=each or len(tensor) == 1)
        return tensor, cost

    def _of_each(self, images: Tensor, method: str, cost: Objective) -> Best:
        model, few = self._model, max(1, len(self) // one_shot.MASKS_AN_IMAGE)
        packed = isinstance(model, MaskedNetwork) and on_packed_bits(model)
        if not self._layered or (packed and method == "one-shot" and len(images) <= few):
            return self._by_vectors(list(images.split(1)), cost)
        assert isinstance(model, MaskedNetwork)
        by_layer = model.layer_weights(self._weights())
        traced = trace(model, images, lambda index, a: F.linear(a, by_layer[index]), cost)
        layers = self._layers(traced)
        if method == "one-shot" or not packed:
            return self._checked(self._workers.ask("best_by_layers", layers, self._best), self._best)
        share = one_shot.SKETCH_SHARE if model.densities is None else 1.0
        count = min(one_shot.SHORT_LIST, len(self))
        sketch = self._layers([strongest(traced, share)])
        listed = np.sort(self._checked(self._workers.ask("best_by_layers", sketch, count), count).rows, axis=1)
        found = self._workers.ask("scores_of", layers, listed)
        scores = found[0]
        for other in found[1:]:
            scores = np.where(np.isnan(scores), other, scores)
        return self._checked([Best(listed, scores, not np.isnan(scores).any())], self._best)

    def _by_vectors(self, batches: list[Tensor], cost: Objective) -> Best:
        """One vector g * W for each batch."""
        weights, statistics = self._weights(), self._statistics()
        vectors = [mask_derivatives(self._model, weights, batch, cost, statistics) for batch in batches]
        stacked = torch.stack(vectors).float().cpu().numpy()
        return self._checked(self._workers.ask("best_by_dot", stacked, self._best), self._best)

    def _checked(self, answers: list[Best], count: int) -> Best:
        found = merged(answers, count)
        if not found.are_numbers:
            raise ImageValueError("images: expected values that the network can compute with, found NaN in its answers")
        return found

    def _layers(self, traced: Sequence[LayerTrace]) -> list[Layer]:
        names = [layer.name for layer in self._model.spec]
        return [Layer(name, at.delta.numpy(), at.activation.numpy()) for name, at in zip(names, traced, strict=False)]

    def _weights(self) -> Tensor:
        """The superposition that derivatives are taken at; see `superposed_weights`."""
        if self._total is None:
            return expected_weights(self._model)
        mean = self._total.astype(np.float32) / np.float32(len(self))
        return torch.from_numpy(mean).to(self._model.weights) * self._model.weights

    def _statistics(self) -> Extras:
        return self._model.mixture_statistics(self._weights()) if self._model.initial_statistics() else None

    def _plans(self, sources: Sequence[Any], threads: int | None) -> list[Plan]:
        """The rows of each worker, and where they come from."""
        model = self._model
        names: list[str] = []
        of_sources: list[tuple[Any, tuple[str, ...], Any]] = []
        for source in sources:
            if isinstance(source, MaskMatrix | MaskSource):
                check_spec(model, source)
                own = source.names if isinstance(source, MaskMatrix) else tuple(source)
            else:
                source = os.fspath(source)
                with open_source(source) as opened:
                    check_spec(model, opened)
                    own = tuple(opened)
            of_sources.append((self._mapped(source) if isinstance(source, MaskMatrix) else source, own, source))
            names += own
        self._names = tuple(names)
        if not names or len(set(names)) != len(names):
            found = f"{len(names) - len(set(names))} that come twice" if names else "none"
            raise InferenceError(f"sharded inference: expected masks of distinct names, found {found}")
        units = -(-len(names) // UNIT)
        cuts = [min(len(names), UNIT * (units * part // self._workers.count)) for part in range(self._workers.count)]
        weights: dict[str, NDArray[np.float32]] = {}
        packed = isinstance(model, MaskedNetwork) and self._layered and on_packed_bits(model)
        if packed:
            by_layer = model.layer_weights(model.weights)
            weights = {layer.name: values.numpy() for layer, values in zip(model.spec, by_layer, strict=True)}
        sent = pickle.dumps(model) if self._layered and not packed else None
        located = any(not isinstance(source, MaskMatrix | MaskSource) for source in sources)
        known = model.coding_backbone() if located else None
        return [
            Plan(model.spec, start, tuple(_pieces(of_sources, start, stop)), weights, sent, threads, known)
            for start, stop in zip(cuts, [*cuts[1:], len(names)], strict=True)
        ]

    def _mapped(self, matrix: MaskMatrix) -> str:
        """A file of the full blocks of a matrix, which goes with this object."""
        folder = self._stay.enter_context(tempfile.TemporaryDirectory(prefix="maskstore-rows-"))
        path = Path(folder) / "rows.npy"
        np.save(path, matrix.interleaved.blocks)
        return str(path)


def _pieces(sources: Sequence[tuple[Any, tuple[str, ...], Any]], start: int, stop: int) -> list[Piece]:
    """The rows from `start` to `stop` of all sources, in order."""
    pieces, at = [], 0
    for place, names, source in sources:
        first, last = max(start, at) - at, min(stop, at + len(names)) - at
        if first < last and isinstance(source, MaskMatrix):
            rows = source.interleaved
            full = LANES * len(rows.blocks)
            if first % LANES == 0 and (last % LANES == 0 or last == len(names)):
                tail = rows.tail if last > full else None
                pieces.append(Piece(place, None, first // LANES, min(last, full) // LANES, tail))
            else:
                pieces.append(Piece(source.select(range(first, last)), names[first:last]))
        elif first < last:
            pieces.append(Piece(place, names[first:last]))
        at += len(names)
    return pieces
