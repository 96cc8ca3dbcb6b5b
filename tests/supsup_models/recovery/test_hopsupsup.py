"""HopSupSup: the neuron-masked network, its masks, and their recovery from unlabelled images."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hopfield import Hebbian, PaperRecipe, Storkey, recover
from maskstore import Mask
from supsup_models._progress import Reporter
from supsup_models.cli import recover as recover_command
from supsup_models.cli.app import run_command
from supsup_models.data import open_stream, unlabelled_batches
from supsup_models.errors import NetworkError, RunError, UnknownNameError
from supsup_models.hopsupsup import (
    CueTraining,
    NeuronMaskedNetwork,
    NeuronTraining,
    accuracy,
    entropy_on,
    mean_state,
    memory_per_layer,
    recover_stream,
    setups,
    train_neuron_mask,
)
from supsup_models.hopsupsup.stream import Relabelled, neuron_case, train_stream
from supsup_models.hopsupsup.training import cue_direction
from supsup_models.runs.record import RunConfig
from supsup_models.runs.recover import recover_run
from supsup_models.runs.train import train_run
from tests.helpers.masks import random_matrix


class ImagesOnly:
    """A split that has labels only for whoever may see them."""

    def __init__(self, count: int, labels: Tensor | None = None) -> None:
        self._images = torch.randn(count, 20, generator=torch.Generator().manual_seed(0))
        self._labels = labels
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def labels(self) -> Tensor:
        if self._labels is None:
            raise AssertionError("labels were looked at")
        return self._labels

    def images(self, indices: Tensor) -> Tensor:
        return self._images[indices]


def test_the_network_is_batch_norm_with_mask_gains() -> None:
    model = NeuronMaskedNetwork((20, 30, 40, 5), seed=3, output_gain=2.0)
    assert list(model.spec.shapes.items()) == [("hidden.0", (30,)), ("hidden.1", (40,))]
    images = torch.randn(16, 20, generator=torch.Generator().manual_seed(1))
    flat = torch.rand(70, generator=torch.Generator().manual_seed(2)) < 0.5
    x = images
    for layer, gain in enumerate((flat[:30], flat[30:])):
        a = x @ model.get_buffer(f"weight_{layer}").T
        a = (a - a.mean(0)) / (a.var(0, unbiased=False) + 1e-5).sqrt() * gain
        x = a * torch.sigmoid(a)
    expected = x @ model.get_buffer("weight_2").T
    assert torch.allclose(model(images, flat.float()), expected, atol=1e-4)
    assert torch.allclose(model(images, Mask.from_flat(flat.numpy(), model.spec)), expected, atol=1e-4)
    assert model.get_buffer("weight_2").abs().unique().tolist() == pytest.approx([2 * (2 / 40) ** 0.5])


def test_both_gates_are_one_network_for_bits_and_two_for_soft_masks() -> None:
    inside, after = (NeuronMaskedNetwork((20, 30, 40, 5), seed=3, gate=g) for g in ("normalisation", "output"))
    images = torch.randn(16, 20, generator=torch.Generator().manual_seed(1))
    bits = (torch.rand(70, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    assert torch.allclose(inside(images, bits), after(images, bits), atol=1e-5)
    assert not torch.allclose(inside(images, 0.5 * bits), after(images, 0.5 * bits), atol=1e-2)
    with pytest.raises(UnknownNameError, match="gate: expected one of normalisation, output, found 'input'"):
        NeuronMaskedNetwork((20, 30, 5), gate="input")  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="widths"):
        NeuronMaskedNetwork((20, 5))


def test_weights_follow_from_the_seed_and_are_no_parameters() -> None:
    one, same, other = (NeuronMaskedNetwork((20, 30, 5), seed=s) for s in (0, 0, 1))
    assert torch.equal(one.get_buffer("weight_0"), same.get_buffer("weight_0"))
    assert not torch.equal(one.get_buffer("weight_0"), other.get_buffer("weight_0"))
    assert not list(one.parameters())
    assert not one.state_dict()  # the seed is the model; nothing of it is saved


def test_training_lowers_the_loss_and_repeats() -> None:
    stream = open_stream("split-digits", tasks=1)
    train = Relabelled(stream[0].train, stream[0].global_labels)
    model = NeuronMaskedNetwork((stream.inputs, 200, 200, 2), seed=0)
    mask = train_neuron_mask(model, train, NeuronTraining(batches=40, batch=32))
    assert mask == train_neuron_mask(model, train, NeuronTraining(batches=40, batch=32))
    everything = torch.ones(model.spec.bits)
    assert accuracy(model, stream[0].test, mask) > max(0.95, accuracy(model, stream[0].test, everything))


def test_batches_come_without_labels_and_go_round() -> None:
    draw = unlabelled_batches(ImagesOnly(100), 40, seed=0)
    first, second, third = draw(), draw(), draw()
    assert first.shape == (40, 20)
    assert not torch.equal(first, second)
    assert torch.equal(first, third)  # two whole batches in a hundred images, then from the start


def test_recovery_runs_where_looking_at_a_label_would_fail() -> None:
    model = NeuronMaskedNetwork((20, 64, 64, 5), seed=0)
    masks = random_matrix(model.spec, 3)
    memory = memory_per_layer(masks, Hebbian())
    batches = unlabelled_batches(ImagesOnly(300), 64, seed=0)
    found = recover(memory, entropy_on(model, batches), PaperRecipe(steps=5), initial=mean_state(masks))
    assert found.pattern.shape == (128,)
    assert set(found.pattern.tolist()) <= {-1.0, 1.0}


def test_split_tasks_use_outputs_of_their_own() -> None:
    stream = open_stream("split-digits")
    labels = Relabelled(stream[3].train, stream[3].global_labels).labels
    assert set(labels.tolist()) == {6, 7}


@pytest.mark.slow
def test_recovery_of_split_digits_by_the_papers_recipe() -> None:
    stream = open_stream("split-digits", tasks=3)
    model = NeuronMaskedNetwork((stream.inputs, 512, 512, 10), seed=0)
    told: list[float] = []

    class Noted(Reporter):
        def at(self, done: float) -> None:
            told.append(done)

    settings = NeuronTraining(batches=60, batch=64)
    masks = train_stream(model, stream, settings, seed=0, reporter=Noted)
    assert told == [1, 2, 3]
    memory = memory_per_layer(masks, Storkey())
    recipe = PaperRecipe(gamma=6e-3)  # the published 1.5e-3 belongs to four times as many neurons
    exact = 0
    for index in range(3):
        images = unlabelled_batches(stream[index].train, 64, seed=0)
        found = recover(memory, entropy_on(model, images), recipe, initial=mean_state(masks))
        exact += bool(np.array_equal((found.pattern > 0).numpy(), masks[index].flat()))
    assert exact == 3


@pytest.mark.slow
def test_neuron_masks_of_permuted_digits_are_recovered_and_drawn(tmp_path: Path) -> None:
    found = recover_run(stream="permuted-digits", tasks=6, width=512, plot=tmp_path / "steps.svg")
    assert (found["tasks"], found["exact"], found["hamming"]) == (6, 6, 0.0)
    assert found["accuracy"] == found["true_accuracy"] > 0.9
    assert found["steps"] <= 40
    assert found["memory_bytes"] == found["mask_bytes"]
    assert "<svg" in (tmp_path / "steps.svg").read_text()
    json.dumps(found)


@pytest.mark.slow
def test_weight_masks_of_a_run_are_recovered_through_the_dual_form(tmp_path: Path) -> None:
    config = RunConfig("permuted-digits", 4, "lenet-300-100", 100, 60, "paper", 0)
    train_run(config, tmp_path / "run", device="cpu")
    found = recover_run(tmp_path / "run")
    assert (found["tasks"], found["exact"]) == (4, 4)
    assert found["memory_bytes"] > found["mask_bytes"]  # it stores the masks, and saves nothing
    assert recover_run(tmp_path / "run", objective="G")["exact"] == 4
    some = recover_run(tmp_path / "run", tasks=2, recipe="search")
    assert (some["tasks"], some["exact"]) == (2, 2)
    with pytest.raises(RunError, match="expected at most its 4 finished tasks"):
        recover_run(tmp_path / "run", tasks=5)
    with pytest.raises(RunError, match="found no such folder"):
        recover_run(tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match="rule for weight masks"):
        recover_run(tmp_path / "run", rule="perceptron")


def test_unknown_names_are_refused_before_any_work() -> None:
    with pytest.raises(UnknownNameError, match="rule: expected one of hebbian"):
        recover_run(rule="magic")
    with pytest.raises(UnknownNameError, match="objective"):
        recover_run(objective="F")
    with pytest.raises(UnknownNameError, match="recipe: expected one of paper"):
        recover_run(recipe="magic")


def test_wrong_usage_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("supsup_models.hopsupsup.stream.train_stream", forbidden)
    stream = ["recover", "--stream", "split-digits"]
    for arguments, message in (
        ([*stream, "--plot", str(tmp_path / "steps.foo")], "to end in one of"),
        ([*stream, "--plot", str(tmp_path / "nowhere" / "steps.svg")], "can be written"),
        ([*stream, "--plot", str(tmp_path)], "to end in one of"),
        ([*stream, "--objective", "G"], "superfluous outputs"),
        ([*stream, "--tasks", "6"], "1 to 5 tasks"),
        ([*stream, "--seed", "-1"], "--seed"),
        (["recover", str(tmp_path), "--width", "12"], "the run's own"),
        (["recover", str(tmp_path), "--stream", "split-digits"], "the run's own"),
    ):
        assert run_command(arguments) == 2, arguments
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_json_is_one_object_and_warnings_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "recover --stream permuted-digits --tasks 4 --width 8 --recipe mean-field --rule hebbian --json"
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # what a user has
        assert run_command([*arguments.split(), "--seed", str(2**64 - 1)]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["tasks"], len(found["per_task"])) == (4, 4)
    notes = [line for line in err.replace("\r", "\n").splitlines() if "warning" in line]
    assert len(notes) == 1
    assert "expected at most 2 patterns by its theory, found 4" in notes[0]


def test_the_help_names_all_rules_and_recipes() -> None:
    assert set(recover_command.RULES) == {*setups.RULES, *setups.PATTERN_MEMORIES}
    assert set(recover_command.RECIPES) == set(setups.SETUPS) >= set(setups.WEIGHT_SETUPS)


@pytest.mark.slow
def test_quadratic_couplings_give_back_the_masks_of_our_training_too() -> None:
    stream = open_stream("permuted-digits", tasks=8)
    setup = setups.SETUPS["mean-field"]
    model = NeuronMaskedNetwork((stream.inputs, 384, 384, 10), seed=0, output_gain=4.0, gate="output")
    masks = train_stream(model, stream, NeuronTraining(batches=100, cosine=True), seed=0)
    memory = setups.neuron_memory(masks, setup)
    exact = 0
    for index in range(8):
        images = unlabelled_batches(stream[index].test, setup.batch, seed=index)
        found = recover(memory, entropy_on(model, images), setup.recipe, initial=mean_state(masks))
        exact += bool(np.array_equal((found.pattern > 0).numpy(), masks[index].flat()))
        assert setup.steps(found.steps) <= 40
    assert exact >= 7


def test_the_cue_is_known_from_images_alone_and_repeats() -> None:
    model = NeuronMaskedNetwork((20, 64, 64, 5), seed=0, gate="output")
    split = ImagesOnly(300, torch.zeros(300, dtype=torch.int64))
    cue = cue_direction(model, split, CueTraining(batches=2), batch=64, seed=3)
    assert cue.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(cue, cue_direction(model, split, CueTraining(batches=2), batch=64, seed=3))
    other = cue_direction(model, split, CueTraining(batches=2), batch=64, seed=4)
    assert not torch.equal(cue, other)


@pytest.mark.slow
def test_masks_trained_to_be_found_are_recalled_from_one_gradient() -> None:
    stream = open_stream("permuted-digits", tasks=8)
    cue = CueTraining(margin=6.0)  # of sqrt(512) = 22.6 at most
    training = NeuronTraining(batches=100, cosine=True, cue=cue)
    setup = replace(setups.SETUPS["cue"], rule="pseudo-inverse", training=training)
    case = neuron_case(setup, stream, 256, seed=0)
    for rule in ("dense-associative", "coded", "pseudo-inverse"):
        memory = setups.neuron_memory(case.masks, replace(setup, rule=rule))
        found = recover_stream(replace(case, memory=memory), seed=0)
        assert max(task.recovery.steps for task in found) <= 13  # fewer where two random cues lead to one state
        assert sum(task.exact for task in found) == 8, rule
    plain = neuron_case(replace(setup, training=replace(setup.training, cue=None)), stream, 256, seed=0)
    without = recover_stream(plain, seed=0)
    assert sum(task.exact for task in without) <= 3  # what the gradient finds of masks that were not trained for it
    lost = sum(task.true_accuracy for task in without) - sum(task.true_accuracy for task in found)
    assert lost / 8 < 0.02


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.parametrize("recipe", ["paper", "search"])
def test_split_mnist_is_recovered_exactly(recipe: str) -> None:
    found = recover_run(stream="split-mnist", recipe=recipe)
    assert (found["tasks"], found["exact"], found["hamming"]) == (5, 5, 0.0)
    assert found["steps"] <= 30
    assert found["accuracy"] == found["true_accuracy"] > 0.97


def test_entropy_of_certain_and_of_undecided_answers() -> None:
    logits = torch.tensor([[100.0, 0.0, 0.0, 0.0]])
    certain = entropy_on(lambda images, mask: logits * mask[0], lambda: torch.zeros(1, 1))
    assert certain(torch.ones(1)).item() == pytest.approx(0.0, abs=1e-6)
    assert certain(torch.zeros(1)).item() == pytest.approx(float(np.log(4)), abs=1e-6)
    assert F.softmax(logits, 1).max() == 1
