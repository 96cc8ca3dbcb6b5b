"""Edge-popup on a small residual network over digits: training, storing with its statistics, evaluating, transfer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maskstore import MaskBank, MaskMatrix
from maskstore.bank.accounting import account
from maskstore.priors import SeededScores
from supsup_models import (
    Adam,
    ConvertedModel,
    Inference,
    MaskedNetwork,
    NumberedTask,
    Recipe,
    RMSProp,
    convert,
    evaluate,
    infer_each,
    infer_task,
    layer_densities,
    mask_accuracy,
    mask_densities,
    open_stream,
    train_many,
    train_task,
)
from supsup_models.data.tasks import Split
from supsup_models.errors import (
    ArgumentTypeError,
    BatchStatisticsError,
    LabelValueError,
    MethodWarning,
    NetworkError,
    ShapeError,
)
from supsup_models.networks.resnet import ResNet
from supsup_models.training.task import TrainedTask, check_trained

RECIPE = Recipe("short", Adam(1e-3), batch_size=32)


def small_resnet(outputs: int, width: int = 6) -> ConvertedModel:
    net = ResNet((1, 1, 1, 1), bottleneck=False, width=width, outputs=outputs, channels=1, stem="cifar")
    return convert(net, mask="edge-popup", sparsity="er", density=0.32, seed=1, image_shape=(1, 8, 8))


@pytest.mark.slow
def test_edge_popup_resnet_trains_stores_and_evaluates(tmp_path: Path) -> None:
    stream = open_stream("split-digits", tasks=2)
    model = small_resnet(2)
    trained = [train_task(model, task.train, RECIPE, task=task.index, steps=30) for task in stream]

    densities = layer_densities(model.spec.shapes, "er", 0.32)
    for one in trained:
        found = mask_densities(one.mask)
        assert found == pytest.approx(densities, abs=0.01)
        assert one.mask.density == pytest.approx(0.32, abs=1e-3)
        assert one.extras.keys() == model.initial_statistics().keys()
        assert all(array.dtype == np.float32 for array in one.extras.values())
        assert all(array.any() for array in one.extras.values())
    assert not np.array_equal(trained[0].extras["bn1.running_mean"], trained[1].extras["bn1.running_mean"])

    path = tmp_path / "masks.bank"
    with MaskBank.create(path, model.spec) as bank:
        for task, one in zip(stream, trained, strict=True):
            meta = {"densities": mask_densities(one.mask)}
            bank.put(task.name, one.mask, meta=meta, extras=one.extras, prior=one.prior)
    with MaskBank.create(tmp_path / "bare.bank", model.spec) as bank:
        for task, one in zip(stream, trained, strict=True):
            bank.put(task.name, one.mask, meta={"densities": mask_densities(one.mask)}, prior=one.prior)
        bare = account(bank)
    with MaskBank.open(path) as bank:
        matrix = bank.matrix()
        full = account(bank)
        sent = [(bank[task.name], bank.extras(task.name)) for task in stream]
    numbers = sum(array.size for one in trained for array in one.extras.values())
    assert full.payload_bytes == bare.payload_bytes
    assert full.side_bytes - bare.side_bytes >= 4 * numbers  # statistics are counted, as side information

    fresh = small_resnet(2)
    for task, one, (mask, extras) in zip(stream, trained, sent, strict=True):
        assert mask == one.mask
        accuracy = mask_accuracy(fresh, mask, task.test, extras)
        assert accuracy == mask_accuracy(model, one.mask, task.test, one.extras)
        assert accuracy > 0.9
    for method, says in (("one-shot", "hardly better than chance"), ("binary", "chance"), ("exhaustive", "`extras`")):
        with pytest.warns(MethodWarning, match=says):
            guess = infer_task(fresh, matrix, stream[1].test.images(slice(0, 32)), method=method)
        assert guess.scores.shape == (2,)
    with pytest.warns(MethodWarning, match=r"none given for 'task-[01]'; those of the batch are used"):
        found = evaluate(fresh, matrix, stream, "GNs", Inference("exhaustive", images=36))
    assert found.accuracy > 0.9
    statistics = {task.name: one.extras for task, one in zip(stream, trained, strict=True)}
    right = evaluate(fresh, matrix, stream, "GNs", extras=statistics)  # single images: no warning, no error
    assert right.accuracy > 0.8
    with pytest.raises(BatchStatisticsError, match=r"found batch statistics in 'bn1\.running_mean'"):
        infer_each(fresh, matrix, stream[0].test.images(slice(0, 4)))


@pytest.mark.slow
def test_transfer_beats_no_transfer_at_equal_steps() -> None:
    """Digits at three rotations, 30 steps each: the third task starts from the mean of the masks before it, or not."""
    stream = open_stream("rotated-digits", tasks=3)
    model = small_resnet(10)
    earlier = MaskMatrix(model.spec)
    for task in stream:
        one = train_task(model, task.train, RECIPE, task=task.index, steps=30, transfer=earlier)
        assert one.prior == SeededScores(seed=1, task=task.index)
        earlier.append(task.name, one.mask)
    alone = train_task(model, task.train, RECIPE, task=task.index, steps=30)
    transferred, without = (mask_accuracy(model, found.mask, task.test, found.extras) for found in (one, alone))
    print(f"with transfer {transferred:.3f}, without {without:.3f}")
    assert transferred > without + 0.05


@pytest.mark.parametrize("at_once", [None, 3])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(6), nn.SyncBatchNorm(6)], ids=["batch norm", "sync batch norm"])
def test_converted_networks_train_in_threads_as_one_by_one(norm: nn.Module, at_once: int | None) -> None:
    """Dropout and training mode are the network's own, whatever other threads train or infer meanwhile."""
    layers = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3), norm, nn.ReLU(), nn.Dropout(0.3), nn.Flatten())
    model = convert(nn.Sequential(*layers, nn.Linear(216, 2)), image_shape=(64,))
    tasks = [NumberedTask(task.index, task.train) for task in open_stream("split-digits", tasks=3)]
    alone = [train_task(model, task.data, RECIPE, task=task.number, steps=12) for task in tasks]
    state = torch.get_rng_state()
    many = list(train_many(model, tasks, RECIPE, steps=12, at_once=at_once))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(many) == len(alone) == 3
    for one, other in zip(alone, many, strict=True):
        assert one.mask == other.mask
        assert one.curve == other.curve
        assert all(np.array_equal(other.extras[name], value) for name, value in one.extras.items())


def test_threshold_scores_start_from_the_majority() -> None:
    model = MaskedNetwork("lenet-300-100", inputs=12, outputs=4, seed=0)
    mean = torch.rand(model.spec.bits, generator=torch.Generator().manual_seed(0))
    scores = model.transfer_scores(mean, task=3)
    settled = (mean - 0.5).abs() > 0.25
    assert torch.equal(scores[settled] >= 0, mean[settled] > 0.5)
    assert not torch.equal(scores, model.transfer_scores(mean, task=4))


def test_adam_steps_any_network() -> None:
    stream = open_stream("split-digits", tasks=1)
    model = MaskedNetwork("lenet-300-100", inputs=64, outputs=2, seed=0)
    trained = train_task(model, stream[0].train, Recipe("adam", Adam(2e-3), batch_size=32), task=0, steps=20)
    assert mask_accuracy(model, trained.mask, stream[0].test) > 0.9
    assert trained.prior == SeededScores(seed=0, task=0)
    assert not trained.extras


@pytest.mark.gpu
def test_converted_networks_train_on_cuda() -> None:
    task = open_stream("split-digits", tasks=1)[0]
    model = small_resnet(2).to("cuda")
    trained = train_task(model, task.train, RECIPE, task=0, steps=30)
    assert trained.mask.density == pytest.approx(0.32, abs=1e-3)
    on_host = small_resnet(2)
    for network in (model, on_host):
        assert mask_accuracy(network, trained.mask, task.test, trained.extras) > 0.9


def test_bad_tasks_are_refused() -> None:
    model = convert(nn.Sequential(nn.Linear(4, 3)), image_shape=(4,))
    recipe = Recipe("r", RMSProp(), batch_size=2)

    def split(labels: list[int], width: int = 4) -> Split:
        images = torch.zeros(len(labels), width)
        return Split(torch.tensor(labels, dtype=torch.int64), lambda: images, width)

    with pytest.raises(LabelValueError, match=r"\[0, 3\), found 3"):
        train_task(model, split([0, 3]), recipe, task=0, steps=1)
    with pytest.raises(ShapeError, match="labels"):
        train_task(model, split([]), recipe, task=0, steps=1)
    with pytest.raises(ShapeError, match=r"\(b, 4\)"):
        train_task(model, split([0, 1], width=5), recipe, task=0, steps=1)
    with pytest.raises(NetworkError, match="image_shape"):
        train_task(convert(nn.Linear(4, 3)), split([0, 1]), recipe, task=0, steps=1)
    lenet = MaskedNetwork("lenet-300-100", inputs=4, outputs=3, seed=0)
    with pytest.raises(ShapeError, match="extras: expected none"):
        mask_accuracy(lenet, lenet.mask_of(lenet.initial_scores(0)), split([0, 1]), {"x": np.zeros(1)})


class Logarithm(nn.Module):
    """A network whose answers are no numbers for most weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).log()


def test_a_training_that_becomes_nan_is_an_error_and_no_empty_mask() -> None:
    model = convert(Logarithm(), image_shape=(64,))
    images, labels = torch.randn(20, 64), torch.arange(20) % 10
    with pytest.raises(NetworkError, match=r"^task 3: expected a training that stays finite, found a loss of nan"):
        train_task(model, (images, labels), Recipe("short", Adam(1e-3)), task=3, steps=2)


def test_scores_that_become_nan_are_an_error_too() -> None:
    """A mask of NaN scores keeps no weight, and the loss of the last batch may be finite."""
    with pytest.raises(NetworkError, match=r"^task 0: .* scores that are NaN; .* lower learning rate"):
        check_trained(0, torch.tensor([1.0, float("nan")]), 0.5)


def test_scores_and_weights_of_another_network_are_named() -> None:
    model = convert(nn.Linear(64, 10))
    for call in (model.mask_of, model.effective_weights):
        with pytest.raises(ShapeError, match=r"^scores: expected shape \(640,\), found \(3,\)"):
            call(torch.zeros(3))
        with pytest.raises(ArgumentTypeError, match=r"^scores: expected a tensor, found ndarray; torch.from_numpy"):
            call(np.zeros(640))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"^flat tensor: expected one number a weight, shape \(640,\), found shape"):
        model.run_with(torch.zeros(1, 64), torch.zeros(3))


def test_halved_statistics_are_near_and_none_is_lost() -> None:
    extras = {"mean": np.array([0.1, -300.0], np.float32), "var": np.array([1e-4, 70_000.0], np.float32)}
    model = small_resnet(2)
    halved = TrainedTask(model.mask_of(model.initial_scores(0)), 0.0, 0.0, extras=extras).halved()
    assert (halved["mean"].dtype, halved["var"].dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(halved["mean"], extras["mean"], rtol=1e-3)
    assert np.array_equal(halved["var"], extras["var"])
