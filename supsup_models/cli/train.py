"""`supsup train`: its options and what it prints; the work is in `supsup_models.runs.train`."""

from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from maskstore.cli import announced, console
from supsup_models.cli.options import AsJson, Data, Device, Download, example
from supsup_models.cli.seeds import print_trained

EXAMPLES = example(
    "supsup train --stream permuted-digits --tasks 5 --batches 200 --out run",
    "supsup train --stream permuted-mnist --tasks 10 --recipe paper --data DIR --out run",
    "supsup train --stream permuted-mnist --tasks 10 --target-bits 0.1 --data DIR --out run",
    "supsup train --stream permuted-digits --tasks 5 --batches 200 --seeds 5 --out runs",
    "supsup train --stream permuted-digits --tasks 6 --batches 200 --shard 0/3 --out shard-0",
    "supsup train --stream permuted-mnist --tasks 1000 --cluster auto --data DIR --out run",
    "supsup train --stream split-digits --model resnet-18-20 --density 0.3 --sparsity er --batches 50 --out run",
)


def _options(
    out: Annotated[
        Path,
        typer.Option(
            help="The run's folder; an unfinished run there goes on.", show_default=False, callback=console.no_stream
        ),
    ],
    stream: Annotated[
        str,
        typer.Option(
            help="permuted-, rotated-, split-, transformed- or patched- digits, mnist, fashion-mnist or "
            "mnist+fashion-mnist; datasets-mnist+fashion-mnist; split-cifar-100, split-imagenet."
        ),
    ],
    tasks: Annotated[
        int | None, typer.Option(help="Number of tasks; by default all of the stream, permuted, patched: 10.", min=1)
    ] = None,
    model: Annotated[
        str, typer.Option(help="lenet-300-100, fc-1024-1024, conv-4, vit-tiny, resnet-18-20 or resnet-50.")
    ] = "lenet-300-100",
    outputs: Annotated[int, typer.Option(help="Outputs, superfluous ones included.", min=1)] = 100,
    batches: Annotated[int, typer.Option(help="Training batches a task.", min=1, max=1_000_000)] = 1000,
    mask: Annotated[
        str | None, typer.Option(help="threshold, edge-popup or sparse; by default what the recipe trains.")
    ] = None,
    weights: Annotated[str, typer.Option(help="signed-constant or kaiming: the frozen weights.")] = "signed-constant",
    density: Annotated[
        float | None,
        typer.Option(help="Share of the weights that a sparse mask keeps; by default the recipe's."),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(help="uniform, er, erk or equal: how layers share it; by default the recipe's."),
    ] = None,
    rate_weight: Annotated[
        float | None,
        typer.Option(help="Price of a coded bit in nats of loss, at most 1, for sparse masks; by default 0."),
    ] = None,
    target_bits: Annotated[
        float | None,
        typer.Option(
            help="Bits per parameter that the first task's sparse mask may take; finds the density. What counts is its "
            "payload and side information after `maskstore compact --level max`: neither the bank's index nor its "
            "slack, nor a bank before that command."
        ),
    ] = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Start each task from the mean of the masks before it.")
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="default (ours: sparse masks), views (ours, for split streams), dense (ours), paper or edge-popup "
            "(as published)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, scores, pixels, batches.", min=0, max=2**64 - 1)] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(help="Train so many seeds, --seed and those after it, each in a folder seed-N of --out.", min=2),
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="NNs trains without task identity; GG, GNs and GNu train alike.")
    ] = "GG",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only tasks I, I + N, I + 2 N, ..., in a folder of their own; `supsup merge-runs` joins all N parts.",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="local|auto|ADDRESS",
            help="Train on a Ray cluster: one of this machine alone, the one that runs here, or the one at an address.",
            show_default=False,
        ),
    ] = None,
    worker_cpus: Annotated[
        int, typer.Option(help="With --cluster: cores, and threads, of a worker.", min=1, max=4096)
    ] = 1,
    worker_gpus: Annotated[
        float | None,
        typer.Option(
            help="With --cluster: GPUs of a worker, such as 0.25; by default 1 where the device is a GPU, else 0.",
            min=0.0,
            max=64.0,
            show_default=False,
        ),
    ] = None,
    worker_tasks: Annotated[
        int, typer.Option(help="With --cluster: tasks that a worker is handed together.", min=1, max=100_000)
    ] = 1,
    data: Data = None,
    download: Download = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train a mask for every task of a stream; run again with the same arguments, it goes on where it stopped.

    With more --tasks than before it goes on with those.
    """


@wraps(_options)
def train(
    out: Path,
    stream: str,
    seeds: int | None,
    scenario: str,
    shard: str | None,
    cluster: str | None,
    worker_cpus: int,
    worker_gpus: float | None,
    worker_tasks: int,
    data: Path | None,
    download: bool,
    device: str,
    as_json: bool,
    **asked: Any,
) -> None:
    from supsup_models._names import check
    from supsup_models.data import parse_stream_name

    parse_stream_name(stream)  # a wrong name does not wait for torch and Numba
    with announced(console.note):
        from maskstore.torch import pick_device
        from supsup_models.errors import DeviceError
        from supsup_models.inference import SCENARIOS
        from supsup_models.runs import RayExecutor, Workers, bank_path, run_config, train_run, train_seeds

        check("scenario", scenario, SCENARIOS)
        config = run_config(stream, task_identity=scenario != "NNs", **asked)
        options: dict[str, Any] = {"data": data, "download": download, "device": device, "shard": shard}
        with ExitStack() as stack:
            if cluster is not None:
                if worker_gpus is None:
                    worker_gpus = float(pick_device(device, DeviceError).type == "cuda")
                ray = stack.enter_context(RayExecutor(cluster, cpus=worker_cpus, gpus=worker_gpus))
                options["executor"] = Workers(ray, worker_tasks, worker_cpus)
            if seeds is not None:
                every = train_seeds(config, out, seeds, **options)
                print_trained(out, every, as_json)
                return
            trained = train_run(config, out, **options)
    noun, figures = "task" if config.task_identity else "mask", list(trained.record.tasks)
    accuracy = {"accuracy": trained.accuracy} if config.task_identity else {}
    if as_json:
        found = {f"{noun}s": len(figures), f"new_{noun}s": trained.new_tasks, **accuracy, f"per_{noun}": figures}
        console.print_json({"run": str(out), "bank": str(bank_path(out)), **found})
        return
    console.say(f"{len(figures)} {noun}s, {trained.new_tasks} of them new, in {bank_path(out)}")
    if accuracy:
        console.say(f"mean accuracy {trained.accuracy:.4f}, each task under its own mask")
