"""The paper's headline: 2500 PermutedMNIST tasks, LeNet-300-100 with 500 outputs, trained, stored and inferred.

    python benchmarks/run_2500.py OUT --data DIR [--tasks 2500] [--limit 5000]

Trains what OUT does not hold yet (interrupted, it goes on where it stopped), then judges a sample with the task given
(GG) and not given (GNu, one image an inference), and prints one JSON object with accuracies, times, the size of the
file and the peak of memory. One to two hours on two cores.
"""

import argparse
import json
import sys
from pathlib import Path
from time import perf_counter

from supsup_models.inference.scenarios import Inference
from supsup_models.runs.evaluate import evaluate_run
from supsup_models.runs.record import RunConfig, bank_path
from supsup_models.runs.train import train_run


def peak_bytes() -> int:
    """This process' high-water mark of memory."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the run's folder")
    parser.add_argument("--data", type=Path, help="the folder with the MNIST files")
    parser.add_argument("--tasks", type=int, default=2500)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--limit", type=int, default=5000, help="images judged in each scenario")
    parser.add_argument("--infer", default="one-shot")
    options = parser.parse_args()
    config = RunConfig("permuted-mnist", options.tasks, "lenet-300-100", 500, options.batches, options.recipe, seed=0)
    start = perf_counter()
    trained = train_run(config, options.out, data=options.data)
    training = perf_counter() - start
    peak_training = peak_bytes()
    found = {
        scenario: evaluate_run(
            options.out,
            scenario,
            Inference(method=options.infer),
            data=options.data,
            limit=max(options.limit, options.tasks),
        )
        for scenario in ("GG", "GNu")
    }
    print(
        json.dumps(
            {
                "tasks": len(trained.record.tasks),
                "training_seconds": training,
                "new_tasks": trained.new_tasks,
                "file_bytes": bank_path(options.out).stat().st_size,
                "peak_bytes_training": peak_training,
                "peak_bytes": peak_bytes(),
                **{
                    name: {
                        "accuracy": result.accuracy,
                        "interval": result.interval,
                        "task_accuracy": result.task_accuracy,
                        "seconds_per_inference": result.seconds_per_inference,
                    }
                    for name, result in found.items()
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
