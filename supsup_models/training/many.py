"""Many tasks side by side: the same masks as task after task (to rounding), in less time.

On a CPU each core trains a task of its own. The products of one task are too small to share between cores, and batched
products of several tasks are no faster than one after another. On a GPU one task leaves most of the device idle, so the
scores of T tasks are stacked there and every product is a batched one.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event
from time import perf_counter
from typing import Any, Literal, get_args

import torch

from supsup_models._names import check, expect, expect_call, whole_number
from supsup_models.data import Task, labelled_images
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedModel, MaskedNetwork, check_model
from supsup_models.training.recipes import Recipe, named_recipe
from supsup_models.training.steps import Stepping, fastest, make_step
from supsup_models.training.task import (
    REPORT,
    NumberedTask,
    TrainedTask,
    TrainingCurve,
    batch_accuracy,
    check_recipe,
    check_trained,
    task_batches,
    train_task,
)

_FLOATS_A_SCORE = 6  # score, running square, gradient, effective weight, and two that come and go
_MEMORY_SHARE = 0.5  # of what is free
_MOST_STACKED = 64  # beyond this a GPU is busy anyway


Together = Literal["cores", "stacked"]
"""How tasks share a machine: a core each, or stacked in one batched product."""


def tasks_at_once(model: MaskedNetwork, batch_size: int, together: Together) -> int:
    """T, from free memory: half of it may be taken by scores and activations. At least 1."""
    activations = batch_size * (model.inputs + sum(layer.shape[0] for layer in model.spec))
    needed = 4 * (_FLOATS_A_SCORE * model.spec.bits + 4 * activations)
    free = torch.cuda.mem_get_info(model.device)[0] if model.device.type == "cuda" else _free_memory()
    wanted = _MOST_STACKED if together == "stacked" else _cores()
    return max(1, min(wanted, int(free * _MEMORY_SHARE) // needed))


def _cores() -> int:
    """How many cores this process may use, which a batch system or `taskset` may have limited."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return 1 << 30


def train_many(
    model: MaskedModel,
    tasks: Sequence[NumberedTask | Task],
    recipe: Recipe | str,
    *,
    steps: int,
    stepping: Stepping | None = None,
    together: Together | None = None,
    at_once: int | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Iterator[TrainedTask]:
    """Train a mask for each task, several side by side.

    Args:
        model: the network; its weights stay as they are.
        tasks: their numbers and images; a stream, or its tasks, stand for their training images.
        recipe: as in `train_task`.
        steps: how many batches to train each task for, at least 1.
        stepping: as in `train_task`. Stacked tasks have "fused" only.
        together: "cores" trains a task on each core; "stacked" trains all in batched products, which is for threshold
            masks and RMSProp. None takes "stacked" on a GPU that can, "cores" elsewhere.
        at_once: how many tasks side by side; None takes what memory and cores allow, and one for a network other than
            `MaskedNetwork`: those take turns anyway, since their modules change while they train.
        on_step: called as `on_step(number, step, loss)` after every 50 steps of a task, with "cores" from the thread
            that trains it.

    Returns:
        An iterator over the trained tasks, in the order of `tasks`. Closing it stops the training.

    Raises:
        NetworkError: for `at_once` below 1, or for what cannot be stacked. What `train_task` raises comes when the
            task's turn does.
        UnknownNameError: for another recipe or `together`.
        ArgumentTypeError: for an argument of a type that cannot be meant.

    Examples:
        >>> from supsup_models import MaskedNetwork, NumberedTask, Recipe, open_stream, train_many
        >>> tasks = [NumberedTask(task.index, task.train) for task in open_stream("permuted-digits", tasks=2)]
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=10, seed=0)
        >>> masks = [trained.mask for trained in train_many(model, tasks, Recipe("short"), steps=10)]
        >>> len(masks), masks[0] == masks[1]
        (2, False)
    """
    check_model(model)
    recipe, numbered = named_recipe(recipe), _numbered(tasks)
    steps = whole_number("steps", steps)
    expect_call("on_step", on_step)
    if stepping is not None:
        check("stepping", stepping, get_args(Stepping))
    can_stack = (
        recipe.sparse is None
        and recipe.views == 1
        and fastest(model, recipe) != "autograd"
        and stepping in (None, "fused")
    )
    if together is None:
        together = "stacked" if model.device.type == "cuda" and can_stack else "cores"
    check("together", together, get_args(Together))
    if together == "stacked" and not can_stack:
        shown = "" if recipe.views == 1 else f", {recipe.views} views"
        raise NetworkError(
            f"stacked training: expected RMSProp, threshold masks and no stepping but fused, found recipe "
            f"{recipe.name!r} ({type(recipe.optimiser).__name__}, {'threshold' if recipe.sparse is None else 'sparse'} "
            f"masks{shown}) and stepping {stepping}"
        )
    count = at_once
    if count is None:
        count = tasks_at_once(model, recipe.batch_size, together) if isinstance(model, MaskedNetwork) else 1
    if whole_number("at_once", count) < 1:
        raise NetworkError(f"training many: expected at least 1 task at once, found {count}")
    if together == "stacked":
        assert isinstance(model, MaskedNetwork)  # what `fastest` says of others is "autograd"
        return _stacked(model, numbered, recipe, steps, count, on_step)
    stop, count = Event(), min(count, len(numbered))
    threads = max(1, torch.get_num_threads() // max(1, count))

    def train(task: NumberedTask) -> TrainedTask:
        torch.set_num_threads(threads)  # of this worker only
        report = None if on_step is None else partial(on_step, task.number)
        return train_task(
            model,
            task.data,
            recipe,
            task=task.number,
            steps=steps,
            stepping=stepping,
            on_step=report,
            stop=stop.is_set,
        )

    return _on_cores(train, numbered, count, stop)


def _numbered(tasks: Any) -> list[NumberedTask]:
    """The tasks to train; ArgumentTypeError for what are none."""
    one = "[task] is a list of one"
    expect("tasks", tasks, Sequence, "a list of NumberedTask, or a stream", NumberedTask=one, Task=one)
    numbered = []
    for each in tasks:
        if isinstance(each, Task):
            each = NumberedTask(each.index, each.train)
        expect("tasks", each, NumberedTask, "NumberedTask in the list")
        numbered.append(each)
    return numbered


def _on_cores(
    train: Callable[[NumberedTask], TrainedTask], tasks: Sequence[NumberedTask], count: int, stop: Event
) -> Iterator[TrainedTask]:
    """`count` workers, which end when `stop` is set."""
    threads = torch.get_num_threads()
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
        batches = [
            task_batches(model, labelled_images(task.data), recipe, task=task.number, steps=steps) for task in stack
        ]
        curves = [TrainingCurve((), (), ())] * len(stack)
        for done, each in enumerate(zip(*batches, strict=True)):
            images, labels = map(torch.stack, zip(*each, strict=True))  # (T, b, inputs), (T, b)
            losses = trained.step(images, labels, recipe.learning_rate(done, steps))
            if (done + 1) % REPORT == 0 or done + 1 == steps:
                found = zip(losses.tolist(), batch_accuracy(model, trained.logits, labels).tolist(), strict=True)
                curves = [curve.with_point(done + 1, *point) for curve, point in zip(curves, found, strict=True)]
            if on_step is not None and (done + 1) % REPORT == 0:
                for task, loss in zip(stack, losses.tolist(), strict=True):
                    on_step(task.number, done + 1, loss)
        for task, scores, loss in zip(stack, trained.scores, losses.tolist(), strict=True):
            check_trained(task.number, scores, loss)
        masks = [model.mask_of(scores) for scores in trained.scores]
        seconds = (perf_counter() - start) / len(stack)
        for task, mask, loss, curve in zip(stack, masks, losses.tolist(), curves, strict=True):
            yield TrainedTask(mask, loss, seconds, prior=model.prior(task.number), curve=curve)
