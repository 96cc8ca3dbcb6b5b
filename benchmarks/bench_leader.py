"""One-shot inference that reads a part of the masks, against all of them: `pytest benchmarks/ -k leader -s --full`.

The masks are trained ones (permuted MNIST, recipe `paper`) in random rows among copies of them with permuted columns of
the first layer, which is what a mask of another permutation looks like. Images are from the test sets of the trained
tasks. Counted is how often the answer is another than the exact one. Times are of processor time of all threads, so
that other programs on the machine change them less; the ratio is of medians and of means in one run.
"""

from collections.abc import Iterator
from time import process_time

import numpy as np
import pytest
import torch

from maskstore import Mask, MaskMatrix
from supsup_models import RECIPES, MaskedNetwork, NumberedTask, infer_task, open_stream, train_many


def changed_copies(trained: list[Mask], count: int, seed: int) -> tuple[Iterator[Mask], np.ndarray]:
    """So many masks, and the rows of the trained ones among them."""
    rng, spec = np.random.default_rng(seed), trained[0].spec
    rows = rng.choice(count, len(trained), replace=False)
    own = dict(zip(rows.tolist(), trained, strict=True))
    flat = [mask.flat() for mask in trained]

    def masks() -> Iterator[Mask]:
        first = spec.layers[0]
        for row in range(count):
            bits = flat[row % len(flat)].copy()
            bits[: first.size] = bits[: first.size].reshape(first.shape)[:, rng.permutation(first.shape[1])].reshape(-1)
            yield own.get(row) or Mask.from_flat(bits, spec)

    return masks(), rows


def mixed_matrix(trained: list[Mask], count: int, seed: int) -> tuple[MaskMatrix, np.ndarray]:
    """A matrix of `changed_copies`, and the rows of the trained masks."""
    matrix = MaskMatrix(trained[0].spec, room=count)
    masks, rows = changed_copies(trained, count, seed)
    for row, mask in enumerate(masks):
        matrix.append(f"task-{row}", mask)
    return matrix, rows


@pytest.mark.mnist
def test_leader(full: bool) -> None:
    model = MaskedNetwork("lenet-300-100", inputs=784, outputs=100, classes=10, seed=0)
    stream = open_stream("permuted-mnist", tasks=40 if full else 8)
    tasks = [NumberedTask(task.index, task.train) for task in stream]
    steps = 1000 if full else 200
    trained = [one.mask for one in train_many(model, tasks, RECIPES["paper"], steps=steps)]
    for count, images in ((1000, 10_000), (2500, 2000)) if full else ((1000, 40),):
        matrix, rows = mixed_matrix(trained, count, seed=1)
        each = images // len(stream)
        shown = torch.cat([task.test.images(slice(100, 100 + each)) for task in stream])
        true = np.repeat(rows, each)
        found: dict[float, list[int]] = {0.0: [], 1e-4: []}
        seconds: dict[float, list[float]] = {0.0: [], 1e-4: []}
        for error in found:
            infer_task(model, matrix, shown[:1], method="one-shot", error=error)  # compiled before it is timed
        for image in shown.split(1):
            for error in found:
                start = process_time()
                guess = infer_task(model, matrix, image, method="one-shot", error=error)
                seconds[error].append(process_time() - start)
                found[error].append(guess.task)
        exact, fast = (np.array(found[error]) for error in found)
        other = int((exact != fast).sum())
        medians, means = ([1e3 * of(seconds[error]) for error in found] for of in (np.median, np.mean))
        print(
            f"\nleader, k = {count}, {len(shown)} images: other answers {other}, found {(fast == true).mean():.4f}"
            f" (exact {(exact == true).mean():.4f}); processor time {medians[0] / medians[1]:.1f} x less by medians "
            f"({medians[0]:.2f} against {medians[1]:.2f} ms), {means[0] / means[1]:.1f} x by means"
        )
        assert other <= max(1, 1e-3 * len(shown))
