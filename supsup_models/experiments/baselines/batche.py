"""BatchE (Wen et al., "BatchEnsemble", ICLR 2020, section 4.1): shared weights, a rank-one scaling for each task.

Task t computes with W * (s_t r_t^T). W is trained together with the first task's vectors and frozen then, or random for
ever; the vectors start as random signs and are trained for each task.

As W * sum_t alpha_t s_t r_t^T is linear in alpha, tasks can be inferred as with masks: one-shot, dH/dalpha_t =
s_t^T (g * W) r_t, or exhaustively, by the entropy H (Wortsman et al. 2020).
"""

import torch
from torch import Tensor

from supsup_models._names import check
from supsup_models.data import Task
from supsup_models.experiments.baselines.base import (
    SEED_BYTES,
    Answers,
    Baseline,
    BaselineConfig,
    answers,
    float_bytes,
    given,
    initial_layers,
    least_uncertain,
    random_signs,
)
from supsup_models.networks import entropy, run_perceptron

METHODS = ("one-shot", "exhaustive")
VECTOR_RATE = 1e-2  # signs of size 1 have further to go than weights


class BatchE(Baseline):
    """Rank-one scalings of one weight matrix a layer."""

    finds_tasks = True

    def __init__(self, config: BaselineConfig, *, trained_weights: bool, method: str = "exhaustive") -> None:
        super().__init__(config)
        check("inference method", method, METHODS)
        self.name = f"BatchE, {'trained' if trained_weights else 'random'} W"
        if method == "one-shot":
            self.name += ", one-shot"
        self._method = method
        self._trained_weights = trained_weights
        self._weights = initial_layers(config)
        self._vectors: list[list[list[Tensor]]] = []  # of each task, of each layer: s (out,), r (in,)

    def _learn(self, task: Task) -> None:
        first = 1 << 24 | self.tasks << 1
        vectors = [
            [random_signs(self.config, size, layer=layer, stream=first | side) for side, size in enumerate(shape)]
            for layer, shape in enumerate(self.config.shapes())
        ]
        trained = [vector for pair in vectors for vector in pair]
        rate = VECTOR_RATE
        if self._trained_weights and not self.tasks:
            trained, rate = trained + self._weights, self.config.learning_rate
        self._descend(task, trained, lambda images: self._run(vectors, images), learning_rate=rate)
        self._vectors.append(vectors)

    def _run(self, vectors: list[list[Tensor]], images: Tensor) -> Tensor:
        def linear(index: int, activation: Tensor) -> Tensor:
            s, r = vectors[index]
            return ((activation * r) @ self._weights[index].T) * s

        return run_perceptron(images, linear, len(vectors))

    def _predict(self, images: Tensor, task: int | None) -> Answers:
        if task is not None:
            return given(task, self._run(self._vectors[task], images))
        logits = torch.stack([self._run(vectors, images) for vectors in self._vectors])  # (k, b, classes)
        if self._method == "one-shot":
            return answers(self.one_shot(images).argmax(dim=1), logits)
        return least_uncertain(logits)

    def one_shot(self, images: Tensor) -> Tensor:
        """-dL/dalpha at alpha = 1/k for each image and task, `(b, k)`: higher is more likely."""
        with torch.enable_grad():
            alpha = torch.full((len(images), self.tasks), 1 / self.tasks, dtype=torch.float32, requires_grad=True)

            def linear(index: int, activation: Tensor) -> Tensor:
                s, r = (torch.stack([vectors[index][side] for vectors in self._vectors]) for side in (0, 1))
                # every image has its own alpha: (b, k, out) from (b, 1, in) * (k, in)
                scaled = ((activation[:, None] * r) @ self._weights[index].T) * s
                return (alpha[:, :, None] * scaled).sum(dim=1)

            cost = entropy(run_perceptron(images, linear, len(self._weights))).sum()
        return -torch.autograd.grad(cost, alpha)[0]

    def bytes(self) -> int:
        shared = float_bytes(*self._weights) if self._trained_weights else SEED_BYTES
        return shared + float_bytes(*(vector for task in self._vectors for pair in task for vector in pair))
