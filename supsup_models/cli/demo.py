"""`supsup demo`: the tour on embedded data. Train, store, name the task of unlabelled images, get masks from memory."""

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from maskstore import MaskBank
from maskstore.bank import account
from maskstore.cli import console, warm
from maskstore.philox import Role, random_permutation
from supsup_models.data import open_stream
from supsup_models.inference import make_objective, mask_derivatives
from supsup_models.networks import MaskedNetwork
from supsup_models.runs import RunConfig, bank_path, infer_images, recover_run, train_run

CONFIG = RunConfig(
    stream="permuted-digits", tasks=5, model="lenet-300-100", outputs=100, batches=500, recipe="default", seed=0
)
IMAGES = 100
RECOVERED_STREAM, RECOVERED_WIDTH = "split-digits", 384


@dataclass(frozen=True)
class DemoResult:
    """The figures of the tour; fractions, bits and seconds."""

    folder: str
    tasks: int
    accuracy: float
    parameters: int
    file_bytes: int
    packed_bytes: int
    bits_per_parameter: float
    unlabelled_images: int
    tasks_inferred: float
    labels_right: float
    recovered: int
    """Neuron masks of the split stream's tasks that the associative memory gave back bit for bit."""
    recoverable: int
    recovery_batches: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def print(self) -> None:
        """The closing table, and where the files are."""
        folder = Path(self.folder)
        title = f"{CONFIG.stream}, {self.tasks} tasks, {self.parameters:,} weights that are never stored"
        table = console.table(title)
        table.add_column("what")
        table.add_column("result", justify="right")
        bits, found = f"{self.bits_per_parameter:.3f}", f"{self.recovered} of {self.recoverable} exact"
        for row in (
            ("accuracy, task given", f"{self.accuracy:.1%}"),
            ("masks, plainly packed", f"{self.packed_bytes:,} bytes, 1.000 bits a parameter"),
            ("masks, coded, the whole file", f"{self.file_bytes:,} bytes, {bits} bits a parameter"),
            (f"task found, {self.unlabelled_images} unlabelled images", f"{self.tasks_inferred:.1%}"),
            ("label and task right", f"{self.labels_right:.1%}"),
            (f"masks back from a memory, at most {self.recovery_batches} unlabelled batches each", found),
            ("time", f"{self.seconds:.1f} s"),
        ):
            table.add_row(*row)
        console.terminal().print(table)
        console.say("files:")
        for name, what in (
            ("masks.bank", "the masks; look into it with `maskstore stats` and `maskstore ls`"),
            ("run.json", "how they were made"),
            ("unlabelled.npy", "the images; ask again with `supsup infer`"),
        ):
            console.say(f"  {folder / name}: {what}")


def run_demo(folder: Path) -> DemoResult:
    """The whole tour in `folder`, which may hold an earlier demo, but no other run (RunError)."""
    start = perf_counter()
    warm()
    small = MaskedNetwork("lenet-300-100", inputs=1, outputs=1, seed=0)  # the next user does not wait for a compiler
    mask_derivatives(small, small.weights, small.weights.new_zeros(1, 1), make_objective("H", classes=1, outputs=1))
    trained = train_run(CONFIG, folder, restart=True)
    truth, labels = _write_unlabelled_images(folder / "unlabelled.npy")
    answers = infer_images(folder, folder / "unlabelled.npy").answers
    right_task = np.array([answer.task == true for answer, true in zip(answers, truth, strict=True)])
    right_label = np.array([answer.label for answer in answers]) == labels
    with MaskBank.open(bank_path(folder)) as bank:
        stored = account(bank)
    recovered = recover_run(stream=RECOVERED_STREAM, width=RECOVERED_WIDTH, seed=CONFIG.seed)
    return DemoResult(
        folder=str(folder),
        tasks=stored.tasks,
        accuracy=trained.accuracy,
        parameters=stored.parameters,
        file_bytes=stored.file_bytes,
        packed_bytes=stored.tasks * -(-stored.parameters // 8),
        bits_per_parameter=8 * stored.file_bytes / (stored.tasks * stored.parameters),
        unlabelled_images=len(answers),
        tasks_inferred=float(right_task.mean()),
        labels_right=float((right_task & right_label).mean()),
        recovered=recovered["exact"],
        recoverable=recovered["tasks"],
        recovery_batches=max(task["evaluations"] for task in recovered["per_task"]),
        seconds=perf_counter() - start,
    )


def _write_unlabelled_images(file: Path) -> tuple[list[str], np.ndarray]:
    """Test images of all tasks, mixed, into a `.npy` file; returns the truth, which the file does not hold."""
    stream = open_stream(CONFIG.stream, tasks=CONFIG.tasks, seed=CONFIG.seed)
    order = random_permutation(CONFIG.seed, Role.SAMPLE, len(stream[0].test.labels))[:IMAGES].tolist()
    images, names, labels = [], [], []
    for position, index in enumerate(order):
        task = stream[position % len(stream)]
        images.append(task.test.images(slice(index, index + 1)).numpy())
        names.append(task.name)
        labels.append(int(task.test.labels[index]))
    np.save(file, np.concatenate(images), allow_pickle=False)
    return names, np.array(labels)
