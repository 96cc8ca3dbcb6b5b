"""From the options of `supsup train` to a run's configuration: defaults that follow from others, and what clashes."""

from dataclasses import replace

from supsup_models._names import check
from supsup_models.data import stream_length
from supsup_models.errors import NetworkError, UnknownNameError
from supsup_models.networks import ARCHITECTURES, RESNETS, SPARSITIES, layer_densities
from supsup_models.networks.convert import DEFAULT_DENSITY, MASK_RULES, WEIGHT_INITS
from supsup_models.runs.record import RunConfig
from supsup_models.training import DEFAULT, DENSE, EDGE_POPUP, RECIPES

DEFAULT_MODEL = "lenet-300-100"
_SEEDED = tuple(name for name in WEIGHT_INITS if name != "keep")  # a command has no trained network to keep


def run_config(
    stream: str,
    *,
    tasks: int | None = None,
    model: str = DEFAULT_MODEL,
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
    """The configuration with nothing left open.

    By default all tasks of the stream (permuted: 10), masks as published for the model (threshold for fully connected
    networks, edge-popup for residual ones), and a recipe that goes with them: "edge-popup" for edge-popup masks, and
    for these half of the weights, the same share in every layer; "default", sparse masks, for fully connected networks
    with signed-constant weights; "dense" for others and for scenario NNs.

    Raises the streams' errors, UnknownNameError, and NetworkError for options that do not go together.
    """
    count = stream_length(stream, tasks)
    if model == "hopsupsup":
        raise UnknownNameError("model: hopsupsup has masks over neurons, not weights; `supsup recover` trains it")
    check("model", model, (*ARCHITECTURES, *RESNETS))
    mask = ("edge-popup" if model in RESNETS else "threshold") if mask is None else mask
    check("mask", mask, MASK_RULES)
    check("weights", weights, _SEEDED)
    edge_popup = mask == "edge-popup"
    plain = task_identity and not edge_popup and model in ARCHITECTURES and weights == "signed-constant"
    recipe = (EDGE_POPUP if edge_popup else DEFAULT if plain else DENSE).name if recipe is None else recipe
    check("recipe", recipe, RECIPES)
    sparse = RECIPES[recipe].sparse
    if sparse is not None and not plain:
        raise NetworkError(
            f"recipe {recipe}: expected threshold masks on signed-constant weights of {' or '.join(ARCHITECTURES)} and "
            f"task identity, found {mask} masks on {weights} weights of {model}{_identity(task_identity)}"
        )
    if sparse is None and (rate_weight is not None or target_bits is not None):
        given = "rate weight" if rate_weight is not None else "target"
        others = "" if plain else f"; {mask} masks on {weights} weights of {model}{_identity(task_identity)} have none"
        raise NetworkError(f"recipe {recipe}: expected a recipe of sparse masks for a {given}, found another{others}")
    if target_bits is not None and density is not None:
        raise NetworkError(f"target bits: expected no density beside, found {density:g}; the target decides it")
    if rate_weight is not None and not 0 <= rate_weight <= 1:
        raise NetworkError(f"rate weight: expected nats a bit in [0, 1], found {rate_weight:g}")
    if target_bits is not None and not 0 < target_bits <= 1:
        raise NetworkError(f"target bits: expected a number in (0, 1], found {target_bits:g}")
    if not edge_popup and sparse is None and (density is not None or sparsity is not None):
        given = f"density {density:g}" if density is not None else f"sparsity {sparsity}"
        raise NetworkError(
            f"recipe {recipe}: expected no density and no sparsity for threshold masks, found {given}; use edge-popup "
            "masks or a recipe of sparse ones"
        )
    if sparse is not None:
        density = sparse.density if density is None and target_bits is None else density
        sparsity = sparse.sparsity if sparsity is None else sparsity
        check("sparsity", sparsity, SPARSITIES)
        layer_densities({}, sparsity, density or sparse.density)
    if edge_popup:
        density = DEFAULT_DENSITY if density is None else density
        sparsity = "uniform" if sparsity is None else sparsity
        check("sparsity", sparsity, SPARSITIES)
        layer_densities({}, sparsity, density)  # refuses a density that no layers can have
    config = RunConfig(
        stream, count, model, outputs, batches, recipe, seed, task_identity, mask, weights, density, sparsity, transfer,
        rate_weight, target_bits,
    )  # fmt: skip
    if not task_identity and (transfer or not is_masked_network(config)):
        raise NetworkError(
            f"scenario NNs: expected threshold masks on signed-constant weights of {' or '.join(ARCHITECTURES)} and no "
            f"transfer, found {mask} masks on {weights} weights of {model}{' and transfer' if transfer else ''}"
        )
    return config


def _identity(task_identity: bool) -> str:
    return "" if task_identity else " without task identity"


def is_masked_network(config: RunConfig) -> bool:
    """Whether the run's network is a `MaskedNetwork`, which has faster ways than a converted one."""
    return config.model in ARCHITECTURES and config.mask == "threshold" and config.weights == "signed-constant"


def priced(config: RunConfig) -> RunConfig:
    """A configuration with its recipe's own price of bits where it names none, so that both ways to say it compare."""
    recipe = RECIPES.get(config.recipe)
    if config.rate_weight is not None or recipe is None or recipe.sparse is None:
        return config
    return replace(config, rate_weight=recipe.sparse.rate_weight)
