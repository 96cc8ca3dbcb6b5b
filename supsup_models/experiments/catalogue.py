"""All experiments by name: stream, network, recipe, evaluation, and what each should reach."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from supsup_models.experiments.experiment import PAPER, Experiment
from supsup_models.experiments.identity import IdentityFree
from supsup_models.experiments.methods import MethodsCurves, MethodsTable
from supsup_models.experiments.mixed import MixedBatches
from supsup_models.experiments.superfluous import SuperfluousOutputs
from supsup_models.experiments.train_and_judge import Judgement, StreamExperiment, Target
from supsup_models.experiments.transfer import Transfer
from supsup_models.inference import Inference
from supsup_models.runs import run_config

_LENET_50 = run_config("permuted-mnist", tasks=50, recipe="dense")
_GIVEN = Judgement("task given", "GG")
_ONE_SHOT = Judgement("one-shot, one image", "GNu")


def _split(name: str, data_set: str) -> StreamExperiment:
    inferred = (
        _ONE_SHOT,
        Judgement("one-shot with G, one image", "GNu", Inference(objective="G")),
        Judgement("exhaustive, one image", "GNu", Inference("exhaustive")),
        Judgement("one-shot, 128 images", "GNu", Inference(images=128)),
    )
    return StreamExperiment(
        name=name,
        title=f"split-{data_set}: 5 tasks of 2 classes, tasks inferred, labels not shared",
        config=run_config(f"split-{data_set}", recipe="dense"),
        judgements=(_GIVEN, *inferred),
        targets=tuple(Target(judgement.name) for judgement in (*inferred, _GIVEN)),
    )


_ALL: tuple[Experiment, ...] = (
    StreamExperiment(
        name="permuted-lenet-250",
        title="permuted MNIST, LeNet-300-100 with 100 outputs, 250 tasks, inferred from one image",
        config=run_config("permuted-mnist", tasks=250, recipe="dense"),
        judgements=(_GIVEN, replace(_ONE_SHOT, limit=25_000)),
        targets=(
            Target("one-shot, one image", near=("task given", 1.0)),
            Target("one-shot, one image", "task_accuracy", at_least=0.99),
            Target("task given"),
        ),
    ),
    StreamExperiment(
        name="permuted-fc1024-50",
        title="permuted MNIST, FC-1024-1024 with 500 outputs, 50 tasks, inferred from one image",
        source=f"{PAPER}: 94.91 % after 250 tasks",
        # sparse masks: with the recipe dense, one-shot finds 2 % of these tasks (97.3 % with the task given)
        config=run_config("permuted-mnist", tasks=50, model="fc-1024-1024", outputs=500, density=0.03),
        judgements=(_GIVEN, replace(_ONE_SHOT, limit=10_000)),
        targets=(Target("one-shot, one image", published=0.9491, at_least=0.955), Target("task given")),
    ),
    StreamExperiment(
        name="rotated-fc1024-36",
        title="rotated MNIST, FC-1024-1024, 36 tasks 10 degrees apart, binary inference on full batches",
        source=f"{PAPER}: close to the upper bound (figure only)",
        config=run_config("rotated-mnist", tasks=36, model="fc-1024-1024", outputs=500, recipe="dense"),
        judgements=(_GIVEN, Judgement("binary, 128 images", "GNs", Inference("binary", images=128))),
        targets=(
            Target("binary, 128 images", near=("task given", 1.0)),
            Target("binary, 128 images", "task_accuracy"),
            Target("task given"),
        ),
    ),
    _split("split-mnist-gnu", "mnist"),
    _split("split-fashion-gnu", "fashion-mnist"),
    IdentityFree(
        name="nns-permuted-lenet-20",
        title="permuted MNIST, LeNet-300-100, 20 tasks, no task identity ever",
        config=run_config("permuted-mnist", tasks=20, recipe="paper"),
        limit=20_000,
    ),
    SuperfluousOutputs(
        name="superfluous-ablation",
        title="permuted MNIST, LeNet-300-100, 50 tasks: outputs against accuracy, for H and G",
        source=f"{PAPER}: figure only",
        config=_LENET_50,
        classes=10,
        outputs=(10, 25, 100, 200),
        wanted=100,
        limit=5_000,
    ),
    StreamExperiment(
        name="gradient-50",
        title="permuted MNIST, LeNet-300-100, 50 tasks: descent on alpha against one-shot, one image",
        config=_LENET_50,
        judgements=(
            Judgement("one-shot", "GNu", limit=2_000),
            Judgement("gradient", "GNu", Inference("gradient"), 2_000),
            Judgement("gradient, 16 images", "GNu", Inference("gradient", images=16), 500),
        ),
        targets=(
            Target("gradient", "task_accuracy", near=("one-shot", 0.0)),
            Target("gradient"),
            Target("one-shot", "task_accuracy"),
        ),
    ),
    MethodsCurves(
        name="batche-psp-curves",
        title="permuted MNIST, LeNet-300-100: SupSup, BatchE and PSP against the number of tasks",
        source=f"{PAPER}: figure only",
        config=_LENET_50,
        counts=(10, 20, 30, 40, 50),
        images=200,
    ),
    MixedBatches(
        name="mixed-per-image-50",
        title="permuted MNIST, LeNet-300-100: batches that mix 50 tasks, each image finds its own",
        config=_LENET_50,
        per_task=200,
        batch=500,
    ),
    MethodsTable(
        name="baselines-permuted",
        title="permuted MNIST, 10 tasks: accuracy, bytes and seconds of every method",
        source=f"{PAPER}: online EWC 33.88 %, SI 29.31 % (GNu)",
        config=run_config("permuted-mnist", recipe="dense"),
        images=1000,
    ),
    Transfer(
        name="edge-popup-transfer",
        title=(
            "rotated digits, ResNet-18 with 20 channels, edge-popup (ER, 30 %), 4 tasks of 20 batches: transfer or none"
        ),
        source=f"{PAPER}: transfer helps (figure only, SplitCIFAR100)",
        config=run_config(
            "rotated-digits", tasks=4, model="resnet-18-20", outputs=10, batches=20, density=0.3, sparsity="er"
        ),
    ),
)
EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType({experiment.name: experiment for experiment in _ALL})
