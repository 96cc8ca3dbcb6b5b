"""Many tasks side by side: the same masks as task after task (to rounding), in less time.

On a CPU each core trains a task of its own: the products of one task are too small to be worth sharing between cores,
and batched products of several tasks are no faster than one after another. On a GPU, where one task leaves most of the
device idle, the scores of T tasks are stacked and every product is a batched one.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from time import perf_counter
from typing import Literal, get_args

import torch

from supsup_models._names import check
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedNetwork
from supsup_models.training.recipes import Recipe
from supsup_models.training.steps import Stepping, fastest, make_step
from supsup_models.training.task import REPORT, NumberedTask, TrainedTask, check_recipe, task_batches, train_task

_FLOATS_A_SCORE = 6  # score, running square, gradient, effective weight, and two that come and go
_MEMORY_SHARE = 0.5  # of what is free
_MOST_STACKED = 64  # beyond this a GPU is busy anyway


Together = Literal["cores", "stacked"]
"""How tasks share a machine: a core each, or stacked in one batched product."""
TOGETHER: tuple[Together, ...] = get_args(Together)


def tasks_at_once(model: MaskedNetwork, batch_size: int, together: Together) -> int:
    """T, from free memory: half of it may be taken by scores and activations. At least 1."""
    activations = batch_size * (model.inputs + sum(layer.shape[0] for layer in model.layers))
    needed = 4 * (_FLOATS_A_SCORE * model.spec.bits + 4 * activations)
    free = torch.cuda.mem_get_info(model.device)[0] if model.device.type == "cuda" else _free_memory()
    wanted = _MOST_STACKED if together == "stacked" else os.cpu_count() or 1
    return max(1, min(wanted, int(free * _MEMORY_SHARE) // needed))


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return 1 << 30


def train_many(
    model: MaskedNetwork,
    tasks: Sequence[NumberedTask],
    recipe: Recipe,
    *,
    steps: int,
    stepping: Stepping | None = None,
    together: Together | None = None,
    at_once: int | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Iterator[TrainedTask]:
    """Train a mask for each task over `steps` batches, `at_once` of them side by side; yields them in order.

    `together` is by default STACKED on a GPU and CORES elsewhere; `at_once` comes from memory and cores
    (`tasks_at_once`); `stepping` as in `train_task`, with CORES only. `on_step(number, step, loss)` is called every 50
    steps, with CORES from the thread that trains. Closing the iterator stops the training.

    Raises what `train_task` raises, when the task's turn comes.
    """
    can_stack = recipe.sparse is None and fastest(model, recipe) != "autograd" and stepping in (None, "fused")
    if together is None:
        together = "stacked" if model.device.type == "cuda" and can_stack else "cores"
    check("together", together, TOGETHER)
    if together == "stacked" and not can_stack:
        raise NetworkError(
            f"stacked training: expected RMSProp, threshold masks and no stepping but fused, found recipe "
            f"{recipe.name!r} ({type(recipe.optimiser).__name__}, {'threshold' if recipe.sparse is None else 'sparse'} "
            f"masks) and stepping {stepping}"
        )
    count = tasks_at_once(model, recipe.batch_size, together) if at_once is None else at_once
    if count < 1:
        raise NetworkError(f"training many: expected at least 1 task at once, found {count}")
    if together == "cores":
        return _on_cores(model, tasks, recipe, steps, stepping, min(count, len(tasks)), on_step)
    return _stacked(model, tasks, recipe, steps, count, on_step)


def _on_cores(
    model: MaskedNetwork,
    tasks: Sequence[NumberedTask],
    recipe: Recipe,
    steps: int,
    stepping: Stepping | None,
    count: int,
    on_step: Callable[[int, int, float], None] | None,
) -> Iterator[TrainedTask]:
    stop = Event()
    threads = torch.get_num_threads()

    def train(task: NumberedTask) -> TrainedTask:
        torch.set_num_threads(max(1, threads // count))  # of this worker only

        def at_step(step: int, loss: float) -> None:
            if on_step is not None:
                on_step(task.number, step, loss)

        return train_task(
            model,
            task.data,
            recipe,
            task=task.number,
            steps=steps,
            stepping=stepping,
            on_step=at_step,
            stop=stop.is_set,
        )

    # Not more futures than twice the workers: a finished mask waits in memory until it is asked for.
    waiting: list[Future[TrainedTask]] = []
    left = iter(tasks)
    with ThreadPoolExecutor(max(1, count)) as pool:
        try:
            for task in left:
                waiting.append(pool.submit(train, task))
                if len(waiting) >= 2 * count:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()
            torch.set_num_threads(threads)  # what threads made later start with


def _stacked(
    model: MaskedNetwork,
    tasks: Sequence[NumberedTask],
    recipe: Recipe,
    steps: int,
    count: int,
    on_step: Callable[[int, int, float], None] | None,
) -> Iterator[TrainedTask]:
    """`count` tasks at a time; a task's time is its share of the stack's."""
    check_recipe(model, recipe, steps)
    for first in range(0, len(tasks), count):
        start, stack = perf_counter(), tasks[first : first + count]
        initial = torch.stack([model.initial_scores(task.number) for task in stack])
        trained = make_step(model, initial, recipe, stepping="fused")
        batches = [task_batches(model, task.data, recipe, task=task.number, steps=steps) for task in stack]
        for done, each in enumerate(zip(*batches, strict=True)):
            images, labels = map(torch.stack, zip(*each, strict=True))  # (T, b, inputs), (T, b)
            losses = trained.step(images, labels, recipe.learning_rate(done, steps))
            if on_step is not None and (done + 1) % REPORT == 0:
                for task, loss in zip(stack, losses.tolist(), strict=True):
                    on_step(task.number, done + 1, loss)
        masks = [model.mask_of(scores) for scores in trained.scores]
        seconds = (perf_counter() - start) / len(stack)
        for task, mask, loss in zip(stack, masks, losses.tolist(), strict=True):
            yield TrainedTask(mask, loss, seconds, prior=model.prior(task.number))
