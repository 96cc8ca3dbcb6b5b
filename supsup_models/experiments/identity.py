"""Learning without task identity: as many masks as tasks, and as accurate as with identity."""

from dataclasses import dataclass, replace

from supsup_models.experiments.experiment import Context, Experiment, Figure, Outcome
from supsup_models.experiments.train_and_judge import Judgement, row, train_and_judge
from supsup_models.runs import RunRecord


@dataclass(frozen=True, kw_only=True)
class IdentityFree(Experiment):
    """The same stream twice: NNs, and with identity in training (GNs) beside it."""

    limit: int

    def run(self, context: Context) -> Outcome:
        """Masks before and after merging, and the accuracy of both."""
        config = context.config(self.config)
        without = replace(config, task_identity=False)
        NNs = train_and_judge(context, without, (Judgement("NNs", "NNs", limit=self.limit),))["NNs"]
        GNs = train_and_judge(context, config, (Judgement("GNs", "GNs", limit=self.limit),))["GNs"]
        masks = RunRecord.read(context.run_folder(without)).tasks
        allocated = max(mask["allocated"] for mask in masks)
        figures = (
            Figure("masks after merging", len(masks), at_least=config.tasks, at_most=config.tasks),
            Figure("masks before merging", allocated, at_most=config.tasks * 22 // 20),
            Figure("NNs: accuracy", NNs.accuracy, at_least=GNs.accuracy - 0.01),
            Figure("NNs: images whose mask is their task's", NNs.task_accuracy),
            Figure("GNs: accuracy", GNs.accuracy),
        )
        return Outcome(figures, [row("NNs", NNs), row("GNs", GNs)])
