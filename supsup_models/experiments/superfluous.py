"""How many superfluous outputs task inference needs, for H and for G (the paper's ablation of the output size)."""

from dataclasses import dataclass, replace
from typing import Any

from supsup_models.experiments.experiment import Context, Experiment, Figure, Outcome
from supsup_models.experiments.plots import plot
from supsup_models.experiments.train_and_judge import Judgement, row, train_and_judge
from supsup_models.inference import Inference


@dataclass(frozen=True, kw_only=True)
class SuperfluousOutputs(Experiment):
    """One run for each number of outputs; G needs at least one superfluous one."""

    classes: int
    outputs: tuple[int, ...]
    wanted: int
    limit: int

    def run(self, context: Context) -> Outcome:
        """Accuracies by outputs and objective, as a table and a plot."""
        table: list[dict[str, Any]] = []
        curves: dict[str, list[tuple[float, float]]] = {"task given": [], "H": [], "G": []}
        figures: list[Figure] = []
        for outputs in self.outputs:
            objectives = ("H", "G") if outputs > self.classes else ("H",)
            judgements = [Judgement("task given", "GG", limit=self.limit)]
            judgements += [
                Judgement(objective, "GNu", Inference(objective=objective), self.limit) for objective in objectives
            ]
            config = context.config(replace(self.config, outputs=outputs))
            for name, found in train_and_judge(context, config, judgements).items():
                table.append({"outputs": outputs, **row(name, found)})
                curves[name].append((outputs, found.accuracy))
                if outputs == self.wanted and name != "task given":
                    given = curves["task given"][-1][1]
                    figures.append(
                        Figure(f"{outputs} outputs, {name}: accuracy", found.accuracy, at_least=given - 0.01)
                    )
        path = context.file(self.name, ".png")
        plot(path, curves, "outputs", "accuracy (GNu)", self.title_in(context))
        return Outcome(tuple(figures), table, (str(path),))
