"""What a run's arguments stand for: defaults that follow from others, what clashes; the recipe, device and network."""

import platform
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import maskstore
import maskstore.torch
from maskstore import MaskBank, MaskSpec
from supsup_models._names import check, choose, expect, number, seed_of, whole_number
from supsup_models.data import TaskStream, stream_length
from supsup_models.errors import (
    DeviceError,
    NetworkError,
    RunError,
    ShardError,
    StreamLengthError,
    UnknownNameError,
)
from supsup_models.networks import (
    ARCHITECTURES,
    PLAIN_NETWORKS,
    RESNETS,
    SPARSITIES,
    MaskedModel,
    MaskedNetwork,
    TaskExtras,
    layer_densities,
)
from supsup_models.networks.convert import (
    DEFAULT_DENSITY,
    MASK_RULES,
    WEIGHT_INITS,
    MaskRule,
    WeightInit,
    convert,
    mask_spec,
)
from supsup_models.runs.record import NetworkSizes, Pixels, RunConfig, RunRecord, Shard, ShownViews
from supsup_models.training import DEFAULT, DENSE, EDGE_POPUP, RECIPES, Recipe

DEVICES = ("auto", "cpu", "cuda")
_MOST_INPUTS = 1 << 20  # values of an image; ImageNet's have 150 528
_MOST_OUTPUTS = 1 << 20
_MOST_TASKS = 100_000  # all of them are looked at before the first is trained
_MOST_WEIGHTS = 1 << 28  # 1 GiB; ResNet-50 has a tenth of that
_SEEDED = tuple(name for name in WEIGHT_INITS if name != "keep")  # a command has no trained network to keep


def run_config(
    stream: str,
    *,
    tasks: int | None = None,
    model: str = "lenet-300-100",
    outputs: int = 100,
    batches: int = 1000,
    recipe: str | None = None,
    seed: int = 0,
    task_identity: bool = True,
    mask: str | None = None,
    weights: str = "signed-constant",
    density: float | None = None,
    sparsity: str | None = None,
    transfer: bool = False,
    rate_weight: float | None = None,
    target_bits: float | None = None,
) -> RunConfig:
    """The configuration of a run, with nothing left open.

    Args:
        stream: Name of the stream of tasks.
        tasks: Number of tasks; by default all of the stream (permuted: 10).
        model: Name of the network, one of `ARCHITECTURES` or `PLAIN_NETWORKS`.
        outputs: Outputs of the network, superfluous ones included.
        batches: Training batches for each task.
        recipe: By default "edge-popup" for edge-popup masks; "default", sparse masks, for conv-4, vit-tiny, and fully
            connected networks with signed-constant weights; "dense" for others and for scenario NNs.
        seed: Of weights, scores, pixels and batches.
        task_identity: False for scenario NNs.
        mask: By default what the recipe trains. Without a recipe as published for the model: "threshold" for fully
            connected networks, "edge-popup" for residual ones; "sparse" for conv-4 and vit-tiny. Sparse masks on fully
            connected networks with signed-constant weights are called "threshold".
        weights: "signed-constant" or "kaiming".
        density: By default the recipe's own, one half for edge-popup masks; dense masks have none.
        sparsity: By default the recipe's own, the same share in every layer for edge-popup masks.
        transfer: Start each task's scores from the mean of the masks before it.
        rate_weight: Price of a coded bit in nats, in [0, 1], for sparse masks.
        target_bits: Bits per parameter that the first task's sparse mask may take, in (0, 1].

    Raises:
        UnknownStreamError, StreamLengthError: No such stream, or not so many tasks.
        UnknownNameError: No such model, recipe, rule or sparsity.
        NetworkError, SparsityError: Arguments that do not go together, or a number out of range.
        CodecError: A seed that is not in [0, 2**64).

    Examples:
        >>> from supsup_models import run_config
        >>> run_config("split-cifar-100", model="resnet-18-20", density=0.3).mask
        'edge-popup'
        >>> run_config("permuted-digits", recipe="dense", target_bits=0.1)
        Traceback (most recent call last):
        ...
        supsup_models.errors.NetworkError: recipe dense: expected a recipe of sparse masks for a target, found another
    """
    count = stream_length(stream, tasks)
    if count > _MOST_TASKS:
        raise StreamLengthError(f"{stream}: expected at most {_MOST_TASKS} tasks in a run, found {count}")
    batches, outputs = whole_number("batches", batches), whole_number("outputs", outputs)
    if min(batches, outputs) < 1:
        raise NetworkError(
            f"run: expected at least 1 batch and 1 output, found {batches} batches and {outputs} outputs"
        )
    seed = seed_of("seed", seed)
    for name, value in (("density", density), ("rate_weight", rate_weight), ("target_bits", target_bits)):
        if value is not None:
            number(name, value)
    if model == "hopsupsup":
        raise UnknownNameError(
            "model: expected masks over weights, found hopsupsup, whose masks are over neurons; `recover_run` trains it"
        )
    check("model", model, (*ARCHITECTURES, *PLAIN_NETWORKS))
    if recipe is not None:
        check("recipe", recipe, RECIPES)
    mask = _usual_mask(model, recipe) if mask is None else mask
    check("mask", mask, MASK_RULES)
    check("weights", weights, _SEEDED)
    edge_popup = mask == "edge-popup"
    plain = task_identity and mask == "threshold" and model in ARCHITECTURES and weights == "signed-constant"
    plain |= task_identity and mask == "sparse"
    recipe = (EDGE_POPUP if edge_popup else DEFAULT if plain else DENSE).name if recipe is None else recipe
    sparse = RECIPES[recipe].sparse
    published = f"threshold masks on signed-constant weights of {' or '.join(ARCHITECTURES)}"
    masks = f"{mask} masks on {weights} weights of {model}"
    found = masks if task_identity else f"{masks} without task identity"
    if sparse is not None and not plain:
        raise NetworkError(
            f"recipe {recipe}: expected {published}, or sparse masks, and task identity, found {found}; "
            '`mask="sparse"` is for any network'
        )
    if sparse is None and mask == "sparse":
        raise NetworkError(f'recipe {recipe}: expected a recipe of sparse masks, such as "default", found another')
    if sparse is None and (rate_weight is not None or target_bits is not None):
        given = "rate weight" if rate_weight is not None else "target"
        others = "" if plain else f"; {found} have none"
        raise NetworkError(f"recipe {recipe}: expected a recipe of sparse masks for a {given}, found another{others}")
    if target_bits is not None and density is not None:
        raise NetworkError(f"target bits: expected no density beside, found {density:g}; the target decides it")
    if rate_weight is not None and not 0 <= rate_weight <= 1:
        raise NetworkError(f"rate weight: expected nats a bit in [0, 1], found {rate_weight:g}")
    if target_bits is not None and not 0 < target_bits <= 1:
        raise NetworkError(f"target bits: expected a number in (0, 1], found {target_bits:g}")
    if edge_popup or sparse is not None:
        usual = DEFAULT_DENSITY if sparse is None else sparse.density
        density = usual if density is None and target_bits is None else density
        shared = "uniform" if sparse is None else sparse.sparsity
        sparsity = shared if sparsity is None else sparsity
        check("sparsity", sparsity, SPARSITIES)
        layer_densities({}, sparsity, usual if density is None else density)  # refuses one that no layers can have
    elif density is not None or sparsity is not None:
        given = f"density {density:g}" if density is not None else f"sparsity {sparsity}"
        raise NetworkError(
            f"recipe {recipe}: expected no density and no sparsity for threshold masks, found {given}; use edge-popup "
            "masks or a recipe of sparse ones"
        )
    config = RunConfig(
        stream, count, model, outputs, batches, recipe, seed, task_identity, mask, weights, density, sparsity, transfer,
        rate_weight, target_bits,
    )  # fmt: skip
    if not task_identity and (transfer or not is_masked_network(config)):
        also = " and transfer" if transfer else ""
        raise NetworkError(f"scenario NNs: expected {published} and no transfer, found {masks}{also}")
    return config


def _usual_mask(model: str, recipe: str | None) -> str:
    """The masks that a network is trained for unless told otherwise."""
    if model in ARCHITECTURES:
        return "threshold"
    if recipe is None:
        return "edge-popup" if model in RESNETS else "sparse"
    if RECIPES[recipe].sparse is not None:
        return "sparse"
    return "edge-popup" if model in RESNETS or recipe == EDGE_POPUP.name else "threshold"


def is_masked_network(config: RunConfig) -> bool:
    """Whether the run's network is a `MaskedNetwork`, which has faster ways than a converted one."""
    return config.model in ARCHITECTURES and config.mask == "threshold" and config.weights == "signed-constant"


def check_independent(config: RunConfig, what: str) -> None:
    """ShardError for a run whose tasks cannot be trained apart from each other."""
    if config.transfer:
        raise ShardError(
            f"{what}: expected a run without transfer, found one with it; there each task starts from the masks of all "
            "tasks before it"
        )
    if not config.task_identity:
        raise ShardError(
            f"{what}: expected a run with task identity, found scenario NNs; there each batch is learned after all "
            "batches before it"
        )


def shard_of(config: RunConfig, shard: Shard | str) -> Shard:
    """The shard that a caller asks for; ShardError for one that is none, and for a run that cannot be cut up."""
    expect("shard", shard, (Shard, str), 'a Shard, or text such as "0/3"')
    shard = Shard.parse(shard) if isinstance(shard, str) else shard
    check_independent(config, f"shard {shard}")
    if shard.count > config.tasks:
        raise ShardError(f"shard {shard}: expected at most a shard for each of {config.tasks} tasks, found more")
    return shard


def priced(config: RunConfig) -> RunConfig:
    """A configuration with its recipe's own price of bits where it names none, so that both ways to say it compare."""
    recipe = RECIPES.get(config.recipe)
    if config.rate_weight is not None or recipe is None or recipe.sparse is None:
        return config
    return replace(config, rate_weight=recipe.sparse.rate_weight)


def run_recipe(config: RunConfig) -> Recipe:
    """The recipe of a run, with the run's own density, sparsity and price of bits. UnknownNameError for no recipe."""
    recipe = choose("recipe", config.recipe, RECIPES)
    if recipe.sparse is None:
        return recipe
    own = {"density": config.density, "sparsity": config.sparsity, "rate_weight": config.rate_weight}
    given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    return replace(recipe, sparse=replace(recipe.sparse, **given))


def pick_device(name: str) -> torch.device:
    """The device of one of `DEVICES`; DeviceError for "cuda" where there is none, UnknownNameError for other names."""
    check("device", name, DEVICES)
    return maskstore.torch.pick_device(name, DeviceError)


def network_spec(record: RunRecord) -> MaskSpec:
    """The layers of the network that a record describes, from its sizes alone: no weight is made.

    Whoever reads a record that somebody else may have written compares this with the bank, before `make_network` takes
    the memory that the record asks for.

    Raises:
        RunError: Sizes that are not those of its kind of network, or larger than any that can be trained.
        UnknownNameError: No such model.
    """
    config, sizes = record.config, record.network
    if record.own is not None and record.own.network is not None:
        raise RunError(
            f"run record: expected a network that its name stands for, found {config.model}, given in Python; open the "
            "run with `Run.open(folder, model, stream)`"
        )
    if is_masked_network(config) != (sizes.image_shape is None):
        raise RunError(
            f"run record: expected sizes of {config.model} with {config.mask} masks, found {sizes.to_json()}"
        )
    shape = sizes.image_shape or (sizes.inputs,)
    if prod(shape) != sizes.inputs or not (1 <= sizes.inputs <= _MOST_INPUTS and 1 <= sizes.outputs <= _MOST_OUTPUTS):
        raise RunError(
            f"run record: expected 1 to {_MOST_INPUTS} inputs, as the image shape has, and 1 to {_MOST_OUTPUTS} "
            f"outputs, found {sizes.inputs:.8g} inputs of shape {shape!s:.60} and {sizes.outputs:.8g} outputs"
        )
    spec = _spec(config, sizes)
    if config.mask == "sparse" and (sizes.densities is None or len(sizes.densities) != len(spec)):
        raise RunError(f"run record: expected {len(spec)} densities, one a layer, found {sizes.densities!s:.60}")
    if spec.bits > _MOST_WEIGHTS:
        raise RunError(f"run record: expected a network of at most {_MOST_WEIGHTS} weights, found {spec.bits}")
    return spec


def network_shapes(config: RunConfig, sizes: NetworkSizes) -> dict[str, tuple[int, ...]]:
    """The masked layers of a run's network by name, from its sizes alone: no weight is made."""
    return dict(_spec(config, sizes).shapes)


def _spec(config: RunConfig, sizes: NetworkSizes) -> MaskSpec:
    if sizes.image_shape is None:
        return MaskSpec(ARCHITECTURES[config.model].shapes(sizes.inputs, sizes.outputs))
    with torch.device("meta"):
        return mask_spec(_module(config, sizes))


def _module(config: RunConfig, sizes: NetworkSizes) -> torch.nn.Module:
    """The plain module that a run's network is converted from."""
    assert sizes.image_shape is not None
    if config.model in ARCHITECTURES:
        return ARCHITECTURES[config.model].module(sizes.inputs, sizes.outputs)
    return choose("model", config.model, PLAIN_NETWORKS)(sizes.outputs, sizes.image_shape)


def make_network(record: RunRecord, device: torch.device) -> MaskedModel:
    """The network that a run's record describes. Raises what `network_spec`, `MaskedNetwork` and `convert` raise."""
    config, sizes = record.config, record.network
    network_spec(record)
    if sizes.image_shape is None:
        return MaskedNetwork(config.model, seed=config.seed, **sizes.to_json()).to(device)
    module, density, sparsity = _module(config, sizes), config.density, config.sparsity or "uniform"
    by_layer = None
    if sizes.densities is not None:  # those that the run was started with, whatever a density stands for today
        by_layer, sparsity = dict(zip(mask_spec(module).shapes, sizes.densities, strict=True)), "uniform"
    converted = convert(
        module,
        mask=cast(MaskRule, config.mask),
        weights=cast(WeightInit, config.weights),
        seed=config.seed,
        weight_gain=sizes.weight_gain,
        density=density if by_layer is None else by_layer,
        sparsity=sparsity,
        image_shape=sizes.image_shape,
        classes=sizes.classes,
    )
    return converted.to(device)


def task_extras(bank: MaskBank, model: MaskedModel) -> TaskExtras:
    """The normalisation statistics of a bank's masks by name; nothing for a network without any."""
    return {name: bank.extras(name) for name in bank} if model.has_extras else {}


def check_same_config(folder: Path, config: RunConfig, shard: Shard | None = None) -> RunRecord:
    """The record of the run in a folder; RunError unless `config` is the same, or (but for NNs) has more tasks, and the
    run is of the same shard."""
    record = RunRecord.read(folder)
    if record.shard != shard:
        found = ["the whole run" if each is None else f'`shard="{each}"`' for each in (record.shard, shard)]
        raise RunError(f"{folder}: expected {found[0]}, as it was started, found {found[1]}")
    asked, started = priced(config), priced(record.config)
    if asked.task_identity and asked.tasks > started.tasks:
        started = replace(started, tasks=asked.tasks)
    if asked != started:
        raise RunError(
            f"{folder}: expected the arguments that this run was started with, found {asked.difference(started)}"
        )
    return record


def versions() -> dict[str, str]:
    """The versions that a run's record names."""
    return {
        "maskstore": maskstore.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def new_record(config: RunConfig, recipe: Recipe, stream: TaskStream, device: torch.device) -> RunRecord:
    """The record of a run of which no task is trained. NetworkError for outputs that are too few."""
    if not 1 <= stream.classes <= config.outputs:
        raise NetworkError(f"outputs: expected at least the stream's {stream.classes} classes, found {config.outputs}")
    shape = None
    if not is_masked_network(config):
        shape = (stream.inputs,) if config.model in ARCHITECTURES else tuple(stream.image_shape)
    sizes = NetworkSizes(stream.inputs, config.outputs, stream.classes, recipe.weight_gain, image_shape=shape)
    if recipe.sparse is not None:
        sizes = replace(sizes, densities=recipe.sparse.densities(network_shapes(config, sizes)))
        if config.outputs <= recipe.named_outputs(stream.classes):
            shown = "" if recipe.views == 1 else f" in {recipe.views} views"
            raise NetworkError(
                f"recipe {recipe.name}: expected superfluous outputs, more than the stream's {stream.classes} classes"
                f'{shown}, found {config.outputs} outputs; ask for more `outputs`, or for `recipe="dense"`'
            )
    pixels = Pixels(stream[0].test.scale, stream[0].test.shift)
    views = shown_views(recipe, stream)
    return RunRecord(config, sizes, stream.to_json(), pixels, versions(), device.type, views=views)


def shown_views(recipe: Recipe, stream: TaskStream) -> ShownViews | None:
    """The views that a recipe shows of a stream's images; None where it shows them as they are."""
    return None if recipe.views == 1 else ShownViews(tuple(stream.image_shape), recipe.views)
