"""Scenarios: what counts as right, what a sample is, and that predictions never see the truth."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from maskstore import Mask, MaskMatrix
from maskstore.errors import TaskNotFoundError
from supsup_models import Inference, MaskedNetwork, Recipe, RMSProp, TaskStream, evaluate, train_task
from supsup_models.data import open_stream
from supsup_models.errors import InferenceError, UnknownNameError
from supsup_models.inference.labelling import mask_accuracy
from supsup_models.inference.sampling import sampled, wilson

TASKS = 3


@dataclass(frozen=True)
class Trained:
    model: MaskedNetwork
    matrix: MaskMatrix
    stream: TaskStream


@pytest.fixture(scope="module")
def trained() -> Trained:
    stream = open_stream("permuted-digits", tasks=TASKS)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=50, seed=0, classes=10)
    matrix = MaskMatrix(model.spec)
    for task in stream:
        recipe = Recipe("quick", RMSProp(4e-4), schedule="cosine")
        matrix.append(task.name, train_task(model, task.train, recipe, task=task.index, steps=120).mask)
    return Trained(model, matrix, stream)


def test_given_tasks_are_judged_under_their_own_masks(trained: Trained) -> None:
    found = evaluate(trained.model, trained.matrix, trained.stream, "GG")
    assert found.task_accuracy == 1.0
    assert found.accuracy > 0.9
    for result, task in zip(found.per_task, trained.stream, strict=True):
        assert result.accuracy == mask_accuracy(trained.model, trained.matrix[task.name], task.test)
        assert result.images == len(task.test)
    assert found.accuracy == pytest.approx(np.mean([result.accuracy for result in found.per_task]))


@pytest.mark.parametrize("images", [1, 5, 100])
@pytest.mark.parametrize("method", ["one-shot", "binary", "exhaustive"])
def test_tasks_are_found_without_being_given(trained: Trained, method: str, images: int) -> None:
    inference = Inference(method, "H", images)
    shared = evaluate(trained.model, trained.matrix, trained.stream, "GNs", inference, limit=60)
    unshared = evaluate(trained.model, trained.matrix, trained.stream, "GNu", inference, limit=60)
    assert shared.task_accuracy == unshared.task_accuracy > 0.9
    assert 0.85 < unshared.accuracy <= shared.accuracy


@dataclass(frozen=True)
class Relabelled:
    """A task whose test labels are shuffled."""

    name: str
    images_of: TaskStream
    index: int

    @property
    def test(self) -> "Relabelled":
        return self

    @property
    def labels(self) -> Tensor:
        return self.images_of[self.index].test.labels.flip(0)

    def images(self, indices: Tensor | slice) -> Tensor:
        return self.images_of[self.index].test.images(indices)

    def to(self, device: torch.device) -> "Relabelled":
        return self


def test_labels_have_no_part_in_task_inference(trained: Trained) -> None:
    shuffled = [Relabelled(f"task-{i}", trained.stream, i) for i in range(TASKS)]
    right = evaluate(trained.model, trained.matrix, trained.stream, "GNu")
    wrong = evaluate(trained.model, trained.matrix, shuffled, "GNu")
    assert [t.task_accuracy for t in wrong.per_task] == [t.task_accuracy for t in right.per_task]
    assert wrong.accuracy < 0.3 < right.accuracy


def test_the_order_of_masks_and_tasks_has_no_part_either(trained: Trained) -> None:
    masks = trained.matrix.select(["task-2", "task-0", "task-1"])
    tasks = [trained.stream[i] for i in (1, 2, 0)]
    one = evaluate(trained.model, trained.matrix, trained.stream, "GNu")
    other = evaluate(trained.model, masks, tasks, "GNu")
    assert {t.task: t for t in one.per_task} == {t.task: t for t in other.per_task}


def test_an_answer_under_another_task_counts_for_gns_only(trained: Trained) -> None:
    """Two tasks with one mask: the label is as good under either, the task is right for one of them."""
    twin = MaskMatrix(trained.model.spec, [trained.matrix[0], trained.matrix[0]], ["task-0", "task-1"])
    tasks = [Relabelled("task-0", trained.stream, 0), Relabelled("task-1", trained.stream, 0)]
    shared = evaluate(trained.model, twin, tasks, "GNs")
    unshared = evaluate(trained.model, twin, tasks, "GNu")
    assert shared.per_task[0].accuracy == shared.per_task[1].accuracy == unshared.per_task[0].accuracy
    assert unshared.per_task[1].accuracy == 0.0
    assert shared.task_accuracy == 0.5


@pytest.mark.parametrize(("scenario", "limit", "images"), [("GNu", 30, 1), ("GNs", 9, 4), ("GNu", None, 16)])
def test_what_inference_costs_is_told_on_the_same_images(
    trained: Trained, scenario: str, limit: int | None, images: int
) -> None:
    found = evaluate(trained.model, trained.matrix, trained.stream, scenario, Inference(images=images), limit=limit)
    for number, result in enumerate(found.per_task):
        task = trained.stream[number]
        rows = sampled(trained.stream, images, limit, 0)[number]
        logits = trained.model(task.test.images(torch.from_numpy(rows)), trained.matrix[number])
        right = logits[:, :10].argmax(dim=1).numpy() == task.test.labels.numpy()[rows]
        assert result.given_accuracy == right.mean()
        assert len(rows) == result.images
        assert result.accuracy <= right.mean() or scenario == "GNs"
    assert found.given_accuracy == pytest.approx(np.mean([result.given_accuracy for result in found.per_task]))


def test_a_given_task_costs_nothing_and_a_missing_one_has_no_figure(trained: Trained) -> None:
    given = evaluate(trained.model, trained.matrix, trained.stream, "GG", limit=30)
    assert given.given_accuracy == given.accuracy
    assert evaluate(trained.model, trained.matrix, trained.stream, "NNs", limit=30).given_accuracy is None


def test_wrong_masks_cost_all_of_the_accuracy(trained: Trained) -> None:
    """Every task's mask under the next one's name: inference finds the wrong name, and the given name misleads."""
    names = ["task-1", "task-2", "task-0"]
    swapped = MaskMatrix(trained.model.spec, [trained.matrix[i] for i in range(TASKS)], names)
    found = evaluate(trained.model, swapped, trained.stream, "GNu", limit=90)
    assert found.accuracy == found.task_accuracy == 0.0
    assert found.given_accuracy is not None
    assert found.given_accuracy < 0.4


def test_a_limit_judges_a_stratified_sample(trained: Trained) -> None:
    found = evaluate(trained.model, trained.matrix, trained.stream, "GNu", limit=31)
    assert [task.images for task in found.per_task] == [11, 10, 10]
    assert found.inferences == 31
    assert found.interval is not None
    low, high = found.interval
    assert low <= found.accuracy <= high
    again = evaluate(trained.model, trained.matrix, trained.stream, "GNu", limit=31)
    assert again.per_task == found.per_task
    grouped = evaluate(trained.model, trained.matrix, trained.stream, "GNu", Inference(images=4), limit=6)
    assert [task.images for task in grouped.per_task] == [8, 8, 8]
    assert grouped.inferences == 6
    everything = evaluate(trained.model, trained.matrix, trained.stream, "GG", limit=10**6)
    assert everything.inferences == sum(len(task.test) for task in trained.stream)


def test_a_last_smaller_group_is_judged_too(trained: Trained) -> None:
    found = evaluate(trained.model, trained.matrix, trained.stream[:1], "GNu", Inference(images=100))
    assert found.per_task[0].images == 360
    assert found.inferences == 4


def test_wilson_against_known_values() -> None:
    low, high = wilson(0.9, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)
    assert wilson(0.0, 10)[0] == 0.0
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)
    assert all(math.isfinite(edge) for edge in wilson(1.0, 1))


def test_keys_are_the_interface(trained: Trained) -> None:
    found = evaluate(trained.model, trained.matrix, trained.stream[:1], "GG").to_json()
    assert {"scenario", "tasks", "accuracy", "task_accuracy", "seconds_per_inference", "per_task"} <= set(found)


def test_what_cannot_be_judged_is_refused(trained: Trained) -> None:
    model, matrix, stream = trained.model, trained.matrix, trained.stream
    with pytest.raises(UnknownNameError, match="did you mean 'GNu'"):
        evaluate(model, matrix, stream, "Gnu")
    with pytest.raises(InferenceError, match="at least 1 image"):
        Inference(images=0)
    with pytest.raises(UnknownNameError, match="did you mean 'binary'"):
        Inference("binery")
    with pytest.raises(UnknownNameError, match="expected one of H, G"):
        Inference(objective="M")
    with pytest.raises(InferenceError, match="at least one task"):
        evaluate(model, matrix, [], "GNu")
    with pytest.raises(InferenceError, match="limit of at least 3"):
        evaluate(model, matrix, stream, "GNu", limit=2)
    with pytest.raises(TaskNotFoundError):
        evaluate(model, MaskMatrix(model.spec, [Mask.from_flat(matrix[0].flat(), model.spec)], ["x"]), stream, "GG")
