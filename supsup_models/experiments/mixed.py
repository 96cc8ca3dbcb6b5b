"""Batches that mix images of all tasks: each image finds its own task."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from maskstore.philox import Role, random_permutation
from supsup_models.data import checked_images
from supsup_models.experiments.experiment import Context, Experiment, Figure, Outcome
from supsup_models.inference import Inference, answer


@dataclass(frozen=True, kw_only=True)
class MixedBatches(Experiment):
    """`per_task` test images of each task, shuffled together, in batches of `batch`."""

    per_task: int
    batch: int

    def run(self, context: Context) -> Outcome:
        """Task accuracy, and the accuracy of label and task."""
        config = context.config(self.config)
        run = context.trained(config)
        images, tasks, labels = [], [], []
        for task in run.stream(context.data, context.download):
            chosen = torch.from_numpy(
                random_permutation(config.seed, Role.SAMPLE, len(task.test), stream=task.index)[: self.per_task]
            )
            images.append(task.test.images(chosen))
            labels.append(task.test.labels[chosen].numpy())
            tasks.append(np.full(len(chosen), run.matrix.index(task.name)))
        shuffled = random_permutation(config.seed, Role.SAMPLE, sum(map(len, tasks)), layer=1)
        mixed = checked_images(torch.cat(images)[torch.from_numpy(shuffled)], run.model)
        start = perf_counter()
        answers = [answer(run.model, run.matrix, batch, Inference(), run.extras) for batch in mixed.split(self.batch)]
        seconds = perf_counter() - start
        right_task = np.concatenate([found for found, _ in answers]) == np.concatenate(tasks)[shuffled]
        right_label = np.concatenate([found for _, found in answers]) == np.concatenate(labels)[shuffled]
        figures = (
            Figure("task accuracy", float(right_task.mean()), at_least=0.99),
            Figure("accuracy (GNu)", float((right_task & right_label).mean())),
        )
        cost = {"images": len(mixed), "batch": self.batch, "tasks": len(run.matrix), "seconds": seconds}
        return Outcome(figures, [cost])
