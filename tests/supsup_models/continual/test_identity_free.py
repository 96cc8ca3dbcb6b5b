"""Scenario NNs: masks without task identity. What may decide (images), what may not (labels, tasks, their order)."""

import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskstore import Mask, MaskBank, MaskMatrix
from supsup_models import AllocationConfig, Allocator, IdentityFreeLearner, MaskedNetwork, Recipe, RMSProp, TaskStream
from supsup_models.cli.app import run_command
from supsup_models.continual.allocation import Candidate, label_agreement, mask_preference, mean_entropy
from supsup_models.continual.learner import PutAway
from supsup_models.data import batch_order, open_stream
from supsup_models.errors import InferenceError, LabelValueError, NetworkError, ShapeError
from supsup_models.runs import RunRecord
from supsup_models.training import train_task
from tests.helpers.networks import network

RECIPE = Recipe("quick", RMSProp(4e-4))
CONFIG = AllocationConfig(check_every=25)
BATCHES = 75
TRAIN = ["train", "--scenario", "NNs", "--stream", "permuted-digits", "--tasks", "3", "--batches", "200", "--seed", "3"]


@pytest.fixture(scope="module")
def stream() -> TaskStream:
    return open_stream("permuted-digits", tasks=3)


@pytest.fixture(scope="module")
def model() -> MaskedNetwork:
    return network((64, 128, 64, 50), classes=10)


def batches(stream: TaskStream, order: Sequence[int], count: int = BATCHES) -> Iterator[tuple[Tensor, Tensor]]:
    for visit, index in enumerate(order):
        data = stream[index].train
        for rows in torch.from_numpy(batch_order(visit, index, images=len(data.labels), steps=count, batch_size=128)):
            yield data.images(rows), data.labels[rows]


def learn(
    model: MaskedNetwork, stream: TaskStream, order: Sequence[int], config: AllocationConfig = CONFIG, **options: Any
) -> tuple[IdentityFreeLearner, list[PutAway]]:
    changes: list[PutAway] = []
    learner = IdentityFreeLearner(model, RECIPE, config, on_put_away=changes.append, **options)
    for images, labels in batches(stream, order):
        learner.observe(images, labels)
    learner.finish()
    return learner, changes


def chosen_masks(model: MaskedNetwork, learner: IdentityFreeLearner, stream: TaskStream) -> list[str]:
    """For each task, the mask that its test images are least uncertain under."""
    named = learner.known.items()
    return [
        min(named, key=lambda each: mean_entropy(model, each[1].mask, task.test.images(slice(0, 64))))[0]
        for task in stream
    ]


def test_every_task_gets_one_mask_and_a_task_that_comes_back_its_old_one(
    model: MaskedNetwork, stream: TaskStream
) -> None:
    learner, changes = learn(model, stream, [0, 1, 0, 2])
    assert sorted(learner.known) == ["mask-0", "mask-1", "mask-2"]
    assert learner.allocated == 3
    assert {name: known.batches for name, known in learner.known.items()} == {
        "mask-0": 2 * BATCHES,
        "mask-1": BATCHES,
        "mask-2": BATCHES,
    }
    assert [(list(change.kept), change.batch) for change in changes] == [
        (["mask-0"], 75),
        (["mask-1"], 150),
        (["mask-0"], 225),
        (["mask-2"], 300),
    ]
    assert chosen_masks(model, learner, stream) == ["mask-0", "mask-1", "mask-2"]


def test_tasks_may_change_between_checks(model: MaskedNetwork, stream: TaskStream) -> None:
    learner, changes = learn(model, stream, [0, 1, 2], AllocationConfig(check_every=40))
    assert [change.batch for change in changes] == [75, 150, 225]
    assert chosen_masks(model, learner, stream) == ["mask-0", "mask-1", "mask-2"]


def test_the_order_of_tasks_changes_the_numbers_only(model: MaskedNetwork, stream: TaskStream) -> None:
    learner, _ = learn(model, stream, [2, 0, 1])
    assert chosen_masks(model, learner, stream) == ["mask-1", "mask-2", "mask-0"]


def test_choices_are_made_from_images_alone(model: MaskedNetwork, stream: TaskStream) -> None:
    for call in (Allocator.choose, Allocator.serves, Allocator.find_twin, label_agreement):
        assert not {"label", "labels", "task", "tasks", "y"} & set(inspect.signature(call).parameters)

    def boundaries(relabel: Tensor) -> list[tuple[int, int]]:
        learner = IdentityFreeLearner(model, RECIPE, CONFIG)
        found = []
        for images, labels in batches(stream, [0, 1]):
            before = learner.allocated
            learner.observe(images, relabel[labels])
            if learner.allocated > before:
                found.append((learner.batch, learner.allocated))
        return found

    assert boundaries(torch.arange(10)) == boundaries(torch.arange(10).roll(3)) == [(1, 1), (76, 2)]


def test_labels_of_the_batch_at_hand_are_not_looked_at_before_the_choice(
    model: MaskedNetwork, stream: TaskStream
) -> None:
    learner, _ = learn(model, stream, [0])
    for labels in (torch.zeros(64, dtype=torch.int64), stream[1].train.labels[:64]):
        copy = IdentityFreeLearner(model, RECIPE, CONFIG, known=learner.known, batch=75, allocated=1)
        copy.observe(stream[1].train.images(slice(0, 64)), labels)
        assert copy.allocated == 2
        copy = IdentityFreeLearner(model, RECIPE, CONFIG, known=learner.known, batch=75, allocated=1)
        copy.observe(stream[0].train.images(slice(0, 64)), labels)
        assert (copy.allocated, copy.known) == (1, {})


def test_masks_that_serve_the_same_data_are_merged(model: MaskedNetwork, stream: TaskStream) -> None:
    """An uncertainty threshold out of reach makes a mask of every check; merging leaves one of each task."""
    greedy = AllocationConfig(check_every=25, epsilon=1e9, verify=False)
    learner, changes = learn(model, stream, [0, 1], greedy)
    assert learner.allocated == 6
    assert len(learner.known) == 2
    assert sum(len(change.dropped) for change in changes) == 4
    first, second = chosen_masks(model, learner, stream)[:2]
    assert first != second
    apart, _ = learn(model, stream, [0, 1], AllocationConfig(check_every=25, epsilon=1e9, verify=False, merge=False))
    assert len(apart.known) == 6


def test_a_twin_is_found_and_a_stranger_is_not(model: MaskedNetwork, stream: TaskStream) -> None:
    one, twin, stranger = (
        train_task(model, stream[task].train, RECIPE, task=number, steps=BATCHES).mask
        for task, number in ((0, 0), (0, 7), (1, 1))
    )
    images = stream[0].test.images(slice(0, 128))
    untrained = Mask.from_flat((model.initial_scores(9) >= 0).numpy(), model.spec)
    allocator = Allocator(model, CONFIG)
    candidates = {
        name: Candidate(mask, mean_entropy(model, mask, stream[task].test.images(slice(0, 128))))
        for name, mask, task in (("stranger", stranger, 1), ("twin", twin, 0))
    }
    found = allocator.find_twin(one, candidates.items(), images, untrained)
    assert found == "twin"
    assert label_agreement(model, one, twin, images) > 0.8 > label_agreement(model, one, stranger, images)
    del candidates["twin"]
    assert allocator.find_twin(one, candidates.items(), images, untrained) is None


def test_the_budget_is_kept(model: MaskedNetwork, stream: TaskStream) -> None:
    learner, _ = learn(model, stream, [0, 1, 2], AllocationConfig(check_every=25, budget=2))
    assert (learner.allocated, len(learner.known)) == (2, 2)


def test_the_published_test_by_itself(model: MaskedNetwork, stream: TaskStream) -> None:
    images = stream[0].test.images(slice(0, 64))
    untrained = Mask.from_flat((model.initial_scores(9) >= 0).numpy(), model.spec)
    masks = [train_task(model, stream[t].train, RECIPE, task=t, steps=BATCHES).mask for t in (0, 1)]
    allocator = Allocator(model, AllocationConfig(verify=False))
    packed = MaskMatrix(model.spec, masks)
    choice = allocator.choose(packed, [0.0, 0.0], None, untrained, images)
    nu = mask_preference(model, packed, None, images).softmax(dim=0)
    assert choice.row == 0
    assert choice.certainty == pytest.approx(2 * float(nu.max()))
    # one mask in training beside one that is packed: the same two, and the same answer
    apart = allocator.choose(packed.select([1]), [0.0], Candidate(masks[0], 0.0), untrained, images)
    assert apart.row == 1
    assert apart.certainty == pytest.approx(choice.certainty, rel=1e-4)
    alone = allocator.choose(packed.select([0]), [0.0], None, untrained, images)
    assert (alone.row, alone.certainty) == (None, 1.0)


def test_bad_batches_and_configurations_are_refused(model: MaskedNetwork, stream: TaskStream) -> None:
    learner = IdentityFreeLearner(model, RECIPE, CONFIG)
    with pytest.raises(ShapeError):
        learner.observe(torch.zeros(4, 9), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(LabelValueError):
        learner.observe(torch.zeros(4, 64), torch.full((4,), 10))
    assert (learner.allocated, learner.batch) == (0, 0)
    learner.finish()
    assert len(learner.masks()) == 0
    with pytest.raises(NetworkError, match="weight_gain 2"):
        IdentityFreeLearner(model, Recipe("large", weight_gain=2.0))
    with pytest.raises(InferenceError, match="check_every"):
        AllocationConfig(check_every=0)
    with pytest.raises(InferenceError, match="tolerance"):
        AllocationConfig(tolerance=1.5)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nns") / "run"
    assert run_command([*TRAIN, "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_train_and_eval_without_identity(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run_command(["eval", str(run_folder), "--scenario", "NNs", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["scenario"], printed["tasks"]) == ("NNs", 3)
    assert printed["accuracy"] > 0.9
    assert printed["task_accuracy"] > 0.95
    assert run_command([*TRAIN, "--out", str(run_folder), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["masks"], again["new_masks"]) == (3, 0)
    assert run_command(["eval", str(run_folder), "--scenario", "GNs"]) == 1
    assert "found one without task identity" in capsys.readouterr().err


@pytest.mark.slow
def test_a_mask_tells_nothing_but_itself(run_folder: Path) -> None:
    with MaskBank.open(run_folder / "masks.bank") as bank:
        assert [info.name for info in bank.infos()] == ["mask-0", "mask-1", "mask-2"]
        assert "task" not in {key for info in bank.infos() for key in info.meta}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [0, 5, 470])  # before and after the first mask is put away
def test_an_interrupted_stream_goes_on_and_ends_the_same(
    batch: int, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    observe = IdentityFreeLearner.observe

    def interrupted(self: IdentityFreeLearner, images: Tensor, labels: Tensor) -> float:
        if self.batch == batch:
            raise KeyboardInterrupt
        return observe(self, images, labels)

    monkeypatch.setattr(IdentityFreeLearner, "observe", interrupted)
    assert run_command([*TRAIN, "--out", str(folder)]) == 130
    monkeypatch.undo()
    assert run_command([*TRAIN, "--out", str(folder)]) == 0
    with MaskBank.open(folder / "masks.bank") as bank, MaskBank.open(run_folder / "masks.bank") as whole:
        assert list(bank) == list(whole)
        assert all(bank[name] == whole[name] for name in bank)
        assert [info.meta for info in bank.infos()] == [info.meta for info in whole.infos()]
    assert RunRecord.read(folder) == RunRecord.read(run_folder)
