"""Neuron masks recovered from unlabelled images: `pytest benchmarks/ -k hopfield_recovery -s --full`.

Trains 250 PermutedMNIST masks of 200 batches (two seconds each) once, and takes the first 10, 40 and 100 from them.
The same again for masks that are trained to be found from one gradient (`-k one_look`). Without `--full` 10 alone.
Needs MNIST where `open_stream` looks for it. A step is 128 images.
"""

import os
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from hopfield import PaperRecipe, recover
from maskstore import Mask, MaskBank, MaskMatrix
from supsup_models.data import unlabelled_batches
from supsup_models.data.streams import TaskStream, open_stream
from supsup_models.errors import DataNotFoundError
from supsup_models.hopsupsup import (
    SETUPS,
    Case,
    NeuronMaskedNetwork,
    accuracy,
    entropy_on,
    mean_state,
    neuron_memory,
    recover_stream,
    train_neuron_mask,
)
from supsup_models.runs.recover import recover_run

WIDTHS = (784, 1024, 1024, 10)


def report(what: str, target: str, found: str) -> None:
    print(f"\n| {what} | {target} | {found} |", end="", flush=True)


def data() -> Path | None:
    return Path(os.environ["MASKSTORE_DATA"]) if "MASKSTORE_DATA" in os.environ else None


@pytest.fixture(scope="module")
def most(full: bool) -> int:
    """How many masks are trained."""
    return 250 if full else 10


@pytest.fixture(scope="module")
def stream(most: int) -> TaskStream:
    try:
        return open_stream("permuted-mnist", tasks=most, data=data())
    except DataNotFoundError as error:
        pytest.skip(f"needs the MNIST files: {error}")


@pytest.fixture(scope="module")
def model() -> NeuronMaskedNetwork:
    setup = SETUPS["search"]
    return NeuronMaskedNetwork(WIDTHS, seed=0, output_gain=setup.output_gain, gate=setup.gate)


@pytest.fixture(scope="module")
def masks(stream: TaskStream, model: NeuronMaskedNetwork) -> MaskMatrix:
    matrix = MaskMatrix(model.spec)
    for index, task in enumerate(stream):
        matrix.append(task.name, train_neuron_mask(model, task.train, SETUPS["search"].training, seed=index))
    return matrix


@pytest.mark.parametrize("recipe", ["paper", "mean-field", "search"])
def test_hopfield_recovery_of_split_mnist(recipe: str, stream: TaskStream) -> None:
    found = recover_run(stream="split-mnist", recipe=recipe, data=data())
    report(
        f"SplitMNIST, {recipe} recipe: exact; steps; accuracy",
        "5 of 5; <= 30",
        f"{found['exact']} of {found['tasks']}; {found['steps']}; {found['accuracy']:.4f}",
    )
    assert found["exact"] == 5
    assert found["steps"] <= 30


@pytest.mark.parametrize(("tasks", "exact"), [(10, 10), (40, 38), (100, 95), (250, 225)])
def test_hopfield_recovery_of_permuted_mnist(
    tasks: int, exact: int, most: int, stream: TaskStream, model: NeuronMaskedNetwork, masks: MaskMatrix
) -> None:
    if tasks > most:
        pytest.skip("only with --full")
    setup, chosen = SETUPS["search"], masks.select(range(tasks))
    case = Case(
        setup,
        model,
        chosen,
        neuron_memory(chosen, setup),
        [task.test for task in islice(stream, tasks)],
        partial(accuracy, model),
    )
    found = recover_stream(case, seed=0)
    steps = [setup.steps(task.recovery.steps) for task in found]
    right = sum(task.exact for task in found)
    named = sum(task.overlap_argmax == task.task for task in found)
    report(
        f"PermutedMNIST, d = 2 x 1024, k = {tasks}: exact; steps (mean, most); accuracy found, true; nearest mask",
        f">= {exact}; <= 40",
        f"{right}; {sum(steps) / tasks:.1f}, {max(steps)}; {sum(task.accuracy for task in found) / tasks:.4f}, "
        f"{sum(task.true_accuracy for task in found) / tasks:.4f}; {named}",
    )
    assert right >= exact
    assert max(steps) <= 40


@pytest.fixture(scope="module")
def found_masks(stream: TaskStream, model: NeuronMaskedNetwork, tmp_path_factory: pytest.TempPathFactory) -> MaskMatrix:
    """Masks of the same network that were trained to be found from one gradient.

    They are kept where the environment variable `MASKSTORE_RUNS` names a folder, and training goes on there.
    """
    folder = Path(os.environ.get("MASKSTORE_RUNS") or tmp_path_factory.mktemp("masks"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "found-neuron-masks.bank"
    with MaskBank.open(path, mode="a") if path.exists() else MaskBank.create(path, model.spec) as bank:
        for index, task in enumerate(stream):
            if task.name not in bank:
                bank.put(task.name, train_neuron_mask(model, task.train, SETUPS["cue"].training, seed=index))
        return bank.matrix([task.name for task in stream])


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("rule", "tasks"),
    [
        *(("pseudo-inverse", tasks) for tasks in (10, 50, 100)),
        *(("dense-associative", tasks) for tasks in (10, 50, 250)),
    ],
)
def test_hopfield_recovery_by_one_look(
    rule: str, tasks: int, most: int, stream: TaskStream, model: NeuronMaskedNetwork, found_masks: MaskMatrix
) -> None:
    """The gradient of eight batches, one recall: no candidate is tried. By quadratic couplings, or by the masks."""
    if tasks > most:
        pytest.skip("only with --full")
    setup, chosen = replace(SETUPS["cue"], rule=rule), found_masks.select(range(tasks))
    memory = neuron_memory(chosen, setup)
    splits = [task.test for task in islice(stream, tasks)]
    objective = setup.objective("H", classes=10, outputs=10)
    found = recover_stream(Case(setup, model, chosen, memory, splits, partial(accuracy, model), objective), seed=0)
    right, sure = [task for task in found if task.exact], [task.recovery.confidence or 0.0 for task in found]
    report(
        f"PermutedMNIST, trained to be found, {setup.rule}, k = {tasks}: exact; steps (most); accuracy found, true; "
        "least confidence of right, most of wrong answers",
        f">= {0.95 * tasks:.0f}; <= 40",
        f"{len(right)}; {max(setup.steps(task.recovery.steps) for task in found)}; "
        f"{sum(task.accuracy for task in found) / tasks:.4f}, {sum(task.true_accuracy for task in found) / tasks:.4f}; "
        f"{min((task.recovery.confidence or 0.0 for task in right), default=0.0):.3f}, "
        f"{max((one for task, one in zip(found, sure, strict=True) if not task.exact), default=0.0):.3f}",
    )
    assert len(right) >= 0.95 * tasks


@pytest.mark.parametrize("recipe", ["paper", "mean-field"])
def test_hopfield_recovery_by_couplings_beside_it(
    recipe: str, stream: TaskStream, model: NeuronMaskedNetwork, masks: MaskMatrix
) -> None:
    """The same 40 masks by couplings: the paper's recipe, which is only shown, and the mean field with restarts."""
    chosen = masks.select(range(min(40, len(masks))))
    setup = SETUPS[recipe]
    # the same network, with the mask where the recipe has it
    net = NeuronMaskedNetwork(WIDTHS, seed=0, output_gain=model.output_gain) if recipe == "paper" else model
    memory = neuron_memory(chosen, setup)
    batch = 128 if recipe == "paper" else setup.batch
    how = PaperRecipe(steps=40) if recipe == "paper" else setup.recipe
    right, steps = 0, []
    for index, task in enumerate(islice(stream, len(chosen))):
        entropy = entropy_on(net, unlabelled_batches(task.test, batch, seed=index))
        found = recover(memory, entropy, how, initial=mean_state(chosen))
        right += Mask.from_flat((found.pattern > 0).numpy(), chosen.spec) == chosen[index]
        steps.append(-(-found.steps * batch // 128))
    target = "shown" if recipe == "paper" else f">= {0.95 * len(chosen):.0f}"
    report(
        f"the same masks, k = {len(chosen)}, {recipe} recipe, {setup.rule}: exact; steps (mean, most)",
        f"{target}; <= 40",
        f"{right}; {sum(steps) / len(steps):.1f}, {max(steps)}; {memory.nbytes} bytes",
    )
    assert max(steps) <= 40
    if recipe == "mean-field":
        assert right >= 0.95 * len(chosen)
