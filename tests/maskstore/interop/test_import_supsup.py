import numpy as np
import pytest

from maskstore.errors import ForeignFileError, ImportOptionError
from maskstore.interop import ReadOptions, read_masks
from tests.helpers.foreign_files import supsup_checkpoint

torch = pytest.importorskip("torch")
LENET = {"linear.0": (30, 78, 1, 1), "linear.2": (10, 30, 1, 1), "linear.4": (7, 10, 1, 1)}


def _top_k(scores: np.ndarray, density: float) -> np.ndarray:
    """What the reference code computes, in torch, as its source describes it."""
    values = torch.from_numpy(scores).abs()
    out = torch.ones(values.numel(), dtype=torch.bool)
    _, order = values.flatten().sort(stable=True)
    out[order[: int((1 - density) * values.numel())]] = False
    return out.reshape(values.shape).numpy()


@pytest.mark.parametrize("parallel", [False, True])
def test_threshold_masks_are_scores_not_below_zero(tmp_path, parallel):
    scores = supsup_checkpoint(tmp_path / "final.pt", layers=LENET, tasks=12, parallel=parallel)
    found = read_masks(tmp_path / "final.pt")
    assert found.layout == "supsup"
    assert dict(found.spec.shapes) == {name: shape[:2] for name, shape in LENET.items()}
    assert [task.name for task in found.tasks] == [f"task-{i}" for i in range(12)]  # 10 after 9, not after 1
    for i, task in enumerate(found.tasks):
        for layer in LENET:
            expected = scores[f"{layer}.scores.{i}"] >= 0
            assert np.array_equal(task.mask.layer(layer), expected[:, :, 0, 0])
        assert task.meta == {"source_task": i, "accuracy": 0.8, "best_accuracy": 0.9}
    assert found.meta["arguments"]["set"] == "MNISTPerm"
    assert all(layer["checked"] for layer in found.meta["weights"].values())


@pytest.mark.parametrize(("density", "er"), [(0.5, False), (0.07, False), (3.0, True), (1.0, False), (0.0, False)])
def test_top_k_masks_keep_the_largest_scores(tmp_path, density, er):
    layers = {"conv1": (8, 3, 3, 3), "shortcut": (6, 8, 1, 1), "fc": (5, 6, 1, 1)}
    density = min(1.0, density) if er else density
    scores = supsup_checkpoint(
        tmp_path / "a.pt", layers=layers, conv_type="MultitaskMaskConv", sparsity=density, er_sparsity=er
    )
    found = read_masks(tmp_path / "a.pt")
    assert dict(found.spec.shapes) == layers  # a convolutional network keeps its 1 x 1 kernels
    for i, task in enumerate(found.tasks):
        for layer, shape in layers.items():
            kept = min(0.5, density * (shape[0] + shape[1]) / np.prod(shape)) if er else density
            assert np.array_equal(task.mask.layer(layer), _top_k(scores[f"{layer}.scores.{i}"], kept))


def test_unit_masks_of_the_hopfield_network(tmp_path):
    layers = {"linear.1": (40,), "linear.4": (40,)}
    scores = supsup_checkpoint(
        tmp_path / "hop.pt", layers=layers, conv_type="StandardConv", bn_type="FastHopMaskBN", tasks=5
    )
    found = read_masks(tmp_path / "hop.pt")
    for i, task in enumerate(found.tasks):
        assert np.array_equal(task.mask.layer("linear.4"), scores[f"linear.4.scores.{i}"] >= 0)


def test_only_the_trained_task_is_taken(tmp_path):
    supsup_checkpoint(tmp_path / "a.pt", layers=LENET, tasks=4, task_eval=2)
    found = read_masks(tmp_path / "a.pt", ReadOptions(name="perm-{}"))
    assert [task.name for task in found.tasks] == ["perm-task-2"]
    assert found.tasks[0].meta["source_task"] == 2


def test_a_state_dict_without_arguments_needs_the_rule(tmp_path):
    state = {"linear.0.scores.0": torch.randn(4, 5, 1, 1), "linear.0.weight": torch.randn(4, 5, 1, 1)}
    torch.save(state, tmp_path / "bare.pt")
    with pytest.raises(ImportOptionError, match="`conv_type` given"):
        read_masks(tmp_path / "bare.pt")
    found = read_masks(tmp_path / "bare.pt", ReadOptions(conv_type="FastMultitaskMaskConv"))
    assert np.array_equal(found.tasks[0].mask.layer("linear.0"), state["linear.0.scores.0"][:, :, 0, 0].numpy() >= 0)
    assert found.meta["weights"]["linear.0"]["checked"] is False


def _altered(path, change):
    supsup_checkpoint(path, layers=LENET)
    with torch.serialization.safe_globals([]):
        tree = torch.load(path, weights_only=False)  # our own file, made a line above
    change(tree)
    torch.save(tree, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["state_dict"]["linear.0.weight"].mul_(1.01), "2340 of 2340"),
        (lambda t: t["state_dict"]["linear.0.weight"].view(-1)[:5].zero_(), "5 of 2340"),
        (lambda t: t["state_dict"].update({"linear.0.weight": torch.zeros(3)}), r"shape \(30, 78, 1, 1\)"),
        (lambda t: t["state_dict"]["linear.0.scores.1"].view(-1)[:1].fill_(float("nan")), "NaN"),
        (lambda t: t["state_dict"].pop("linear.2.scores.1"), "same tasks"),
        (lambda t: t["state_dict"].update({"linear.0.scores.1": torch.zeros(30, 78)}), "float scores of shape"),
        (lambda t: t["state_dict"].update({"linear.0.scores.1": torch.zeros(30, 78, 1, 1).int()}), "float scores"),
        (lambda t: t["state_dict"].update({"linear.0.scores.1": torch.zeros(1).expand(30, 78, 1, 1)}), "repeats fewer"),
        (lambda t: setattr(t["args"], "conv_type", "PSPRotation"), "PSPRotation"),
        (lambda t: setattr(t["args"], "individual_heads", True), "individual heads"),
        (lambda t: setattr(t["args"], "task_eval", 9), "task 9"),
        (lambda t: setattr(t["args"], "nonlinearity", "cube"), "cube"),
        (lambda t: vars(t["args"]).update(conv_type="MultitaskMaskConv", sparsity=1.5), "1.5"),
        (lambda t: t["state_dict"].update({"linear.1.scores.0": torch.zeros(30)}), "same tasks"),
    ],
)
def test_what_a_checkpoint_claims_is_checked(tmp_path, change, message):
    with pytest.raises(ForeignFileError, match=message):
        read_masks(_altered(tmp_path / "a.pt", change))


def test_a_few_zero_weights_are_the_reference_codes_own(tmp_path):
    path = _altered(tmp_path / "a.pt", lambda t: t["state_dict"]["linear.0.weight"].view(-1)[:1].zero_())
    assert read_masks(path).meta["weights"]["linear.0"]["zeros"] == 1


def test_trained_weights_are_not_checked(tmp_path):
    def train(tree):
        tree["args"].train_weight_tasks = -1
        tree["state_dict"]["linear.0.weight"].mul_(1.5)

    assert read_masks(_altered(tmp_path / "a.pt", train)).meta["weights"]["linear.0"]["checked"] is False
