"""Edge-popup masks that start from the mean of earlier ones, against masks that start from random scores."""

from dataclasses import replace

import numpy as np

from supsup_models.experiments.experiment import Context, Experiment, Figure, Outcome


class Transfer(Experiment):
    """Two runs that differ in nothing else, judged with the task given, on the tasks after the first."""

    def run(self, context: Context) -> Outcome:
        """Mean accuracy of either, and a row for each task."""
        accuracies, table = [], []
        for transfer in (False, True):
            tasks = context.trained(replace(context.config(self.config), transfer=transfer)).record.tasks
            for task in tasks:
                row = {name: task[name] for name in ("name", "accuracy", "density", "seconds")}
                table.append({"transfer": "yes" if transfer else "no", **row})
            accuracies.append(float(np.mean([task["accuracy"] for task in tasks[1:]])))
        without, with_transfer = accuracies
        figures = (
            Figure("tasks after the first, with transfer: accuracy", with_transfer, at_least=without),
            Figure("tasks after the first, without: accuracy", without),
        )
        return Outcome(figures, table)
