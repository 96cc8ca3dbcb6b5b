"""Models under torch's own tools: inference mode, autocast, checkpoints, torch.func, torch.compile, state dicts."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskstore import MaskMatrix
from supsup_models import Adam, ConvertedModel, MaskedModel, Recipe, convert, infer_each, infer_task, train_task
from supsup_models.data.tasks import Split
from supsup_models.errors import NetworkError, OtherNetworkError, StateDictWarning
from tests.helpers.model_checks import SUBJECTS, Subject, called, expected, exported, subject, ways_of
from tests.helpers.networks import network

CONVERTED = [name for name in SUBJECTS if name != "MaskedNetwork"]


@pytest.mark.parametrize("name", SUBJECTS)
def test_inference_mode_gives_the_same_and_leaves_nothing_behind(name: str) -> None:
    model = subject(name)
    right = expected(model)
    with torch.inference_mode():
        for way in ways_of(model).values():
            assert torch.equal(way(model, 2), right[2])
        kept = model.model.masked_weights(model.masks[2])
    assert not kept.is_inference()  # so that it serves outside, too


def test_a_mask_that_was_bound_in_inference_mode_serves_gradients() -> None:
    shared = subject("converted CNN with batch norm")
    with torch.inference_mode():
        bound = shared.model.bind(shared.masks[1], shared.extras[1])
    inputs = shared.inputs.clone().requires_grad_()
    bound(inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["MaskedNetwork", "converted"])
def test_models_are_made_and_trained_in_inference_mode(kind: str) -> None:
    def make() -> MaskedModel:
        return network((6, 8, 3)) if kind == "MaskedNetwork" else mlp(image_shape=(6,))

    images = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    task = Split(torch.arange(24) % 3, lambda: images, 6)
    with torch.inference_mode():
        inside = make()
        first = train_task(make(), task, Recipe("short", Adam(1e-3), batch_size=8), task=0, steps=3).mask
    for model in (inside, make()):
        assert train_task(model, task, Recipe("short", Adam(1e-3), batch_size=8), task=0, steps=3).mask == first


def test_a_bound_mask_of_a_model_that_was_moved_is_refused() -> None:
    model = mlp()
    bound = model.bind(model.mask_of(model.initial_scores(0)))
    with model.apply_mask(model.mask_of(model.initial_scores(0))):
        model.double()
        for call in (bound, model):
            with pytest.raises(NetworkError, match="bind the mask again"):
                call(torch.ones(1, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", CONVERTED)
def test_autocast_is_that_of_the_plain_module(name: str) -> None:
    model = subject(name)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for way in ways_of(model).values():
            found = way(model, 1)
            torch.testing.assert_close(found, exported(model, 1), rtol=0.02, atol=0.02)
            assert found.dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["one-shot", "binary", "gradient", "exhaustive", "short-list"])
def test_inference_of_tasks_under_autocast(method: str) -> None:
    model = network((12, 10, 6), classes=4)
    masks = [model.mask_of(model.initial_scores(task)) for task in range(4)]
    matrix = MaskMatrix(model.spec, masks)
    images = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    each, whole = infer_each(model, matrix, images, method=method), infer_task(model, matrix, images, method=method)
    with torch.autocast("cpu", torch.bfloat16):
        assert (infer_each(model, matrix, images, method=method).scores == each.scores).all()
        assert (infer_task(model, matrix, images, method=method).scores == whole.scores).all()


class Checkpointed(nn.Module):
    """Parts that are computed again in the backward pass; one of them holds a normalisation layer."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), nn.Linear(8, 3)
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        if not self.again:
            return self.c(self.b(torch.tanh(self.a(x))))
        x = checkpoint(lambda y: torch.tanh(self.a(y)), x, use_reentrant=False)
        return self.c(checkpoint(self.b, x, use_reentrant=False))


def test_checkpoints_compute_again_under_the_same_mask() -> None:
    inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for again in (False, True):
        model = convert(Checkpointed(again), image_shape=(6,))
        scores = [model.initial_scores(task).requires_grad_() for task in range(2)]
        outputs = []
        for own in scores:  # the second call comes before the first one's backward pass
            with model.training_mode(0):
                outputs.append(model.run_with(inputs, model.effective_weights(own), model.initial_statistics()))
        for output in outputs:
            output.square().sum().backward()
        found.append([own.grad for own in scores])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain)


def test_gradients_by_the_input_through_a_checkpoint() -> None:
    model = convert(Checkpointed(True), image_shape=(6,))
    mask, extras = model.mask_of(model.initial_scores(0)), model.initial_statistics()
    inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with model.apply_mask(mask, extras):
        output = model(inputs)
    (found,) = torch.autograd.grad(output.sum(), inputs)
    (right,) = torch.autograd.grad(model.export(mask, extras)(inputs).sum(), inputs)
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("rule", ["threshold", "edge-popup"])
def test_torch_func_takes_scores_and_models(rule: str) -> None:
    model = convert(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), mask=rule)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4, 6, generator=generator), torch.arange(4) % 3
    tasks = torch.stack([model.initial_scores(task) for task in range(3)])

    def loss(scores: Tensor, image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(model.run_with(image[None], model.effective_weights(scores)), label[None])

    one = torch.func.grad(loss)
    for_each_image = torch.func.vmap(one, in_dims=(None, 0, 0))(tasks[0], images, labels)
    for_each_task = torch.func.vmap(one, in_dims=(0, None, None))(tasks, images[0], labels[0])
    last = torch.func.vmap(one, in_dims=(1, None, None))(tasks.T, images[0], labels[0])
    right = torch.stack([one(tasks[0], *pair) for pair in zip(images, labels, strict=True)])
    torch.testing.assert_close(for_each_image, right)
    right = torch.stack([one(scores, images[0], labels[0]) for scores in tasks])
    torch.testing.assert_close(for_each_task, right)
    torch.testing.assert_close(last, right)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which torch itself calls
        _, tangent = torch.func.jvp(
            lambda scores: loss(scores, images[0], labels[0]), (tasks[0],), (torch.ones_like(tasks[0]),)
        )
    torch.testing.assert_close(tangent, right[0].sum())


def test_torch_func_replaces_parameters_that_are_not_masked() -> None:
    model = convert(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), skip="1")
    mask, inputs = model.mask_of(model.initial_scores(0)), torch.ones(2, 6)
    head = {"module.1.weight": torch.zeros(3, 8), "module.1.bias": torch.ones(3)}
    assert torch.equal(torch.func.functional_call(model, head, (inputs, mask)), torch.ones(2, 3))
    with model.apply_mask(mask):
        assert torch.equal(torch.func.functional_call(model, head, (inputs,)), torch.ones(2, 3))
    assert not torch.equal(model(inputs, mask), torch.ones(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["converted CNN with batch norm", "Transformer", "kept weights"])
def test_compiled_models_run_under_the_mask_of_each_call(name: str) -> None:
    model = subject(name)
    right = expected(model)
    torch._dynamo.reset()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own, about numpy arrays that are read-only
        compiled = Subject(torch.compile(model.model, backend="eager"), model.masks, model.extras, model.inputs)
        for mask in (1, 2, 1):
            torch.testing.assert_close(called(compiled, mask), right[mask])
        bound = torch.compile(model.model.bind(model.masks[3], model.extras[3]), backend="eager")
        torch.testing.assert_close(bound(model.inputs), right[3])
    torch._dynamo.reset()


# -- state dicts ----------------------------------------------------------------------------------------------------


def mlp(**options: object) -> ConvertedModel:
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return convert(module, **{"seed": 0, **options})  # type: ignore[arg-type]


NETWORKS: dict[str, tuple[Callable[[], MaskedModel], list[Callable[[], MaskedModel]]]] = {
    "MaskedNetwork": (
        lambda: network((6, 8, 3)),
        [
            lambda: network((6, 8, 3), seed=1),
            lambda: network((6, 8, 3), weight_gain=2.0),
            lambda: network((6, 8, 3), densities=(0.5, 0.5)),
            lambda: network((6, 9, 3)),
        ],
    ),
    "converted": (
        mlp,
        [lambda: mlp(seed=1), lambda: mlp(weight_gain=0.5), lambda: mlp(weights="kaiming"), lambda: mlp(skip="0")],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_of_other_frozen_weights_is_refused(name: str, tmp_path: Path) -> None:
    build, others = NETWORKS[name]
    torch.save(build().state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    model = build()
    assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
    for other in others:
        with pytest.raises(OtherNetworkError, match="state dict: expected") as found:
            other().load_state_dict(state)
        assert "\n" not in str(found.value)
    wrapped, other = nn.ModuleDict({"net": build()}), nn.ModuleDict({"net": others[0]()})
    wrapped.load_state_dict(wrapped.state_dict())
    with pytest.raises(OtherNetworkError):
        other.load_state_dict(wrapped.state_dict())
    with pytest.warns(StateDictWarning, match="expected the seed of its network"):
        others[0]().load_state_dict(dict(state))  # says nothing


def test_kept_weights_are_in_the_state_dict_and_need_no_seed() -> None:
    one, two = mlp(weights="keep", seed=0), mlp(weights="keep", seed=1)
    assert not torch.equal(one.weights, two.weights)
    two.load_state_dict(dict(one.state_dict()))
    assert torch.equal(one.weights, two.weights)


@pytest.mark.parametrize("weights", ["signed-constant", "keep"])
def test_a_state_dict_without_metadata_loads_where_layers_track_statistics(weights):
    """As a safetensors file gives it. torch adds counts of batches to such a dict, which have no place in the model."""
    plain = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    model = convert(plain, weights=weights)
    bare = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StateDictWarning)
        model.load_state_dict(bare)
        nn.ModuleDict({"part": model}).load_state_dict({f"part.{name}": value for name, value in bare.items()})
        with pytest.raises(RuntimeError, match="Unexpected key"):
            model.load_state_dict({**bare, "module.0.num_batches_tracked": torch.tensor(0)})
