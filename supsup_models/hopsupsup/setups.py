"""What belongs together: a recovery recipe with the network, training, memory and batches that it is used with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hopfield import (
    BlockMemory,
    CodedMemory,
    CueRecipe,
    DenseAssociativeMemory,
    DualMemory,
    Hebbian,
    HopfieldNetwork,
    MeanFieldRecipe,
    Memory,
    PaperRecipe,
    Perceptron,
    PseudoInverse,
    RecoveryRecipe,
    Rule,
    SearchRecipe,
    Storkey,
)
from hopfield import patterns as pt
from maskstore import MaskMatrix
from supsup_models._names import check
from supsup_models.hopsupsup.network import Gate
from supsup_models.hopsupsup.training import CueTraining, NeuronTraining
from supsup_models.inference import Objective, make_objective, objectives

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "hebbian": Hebbian(),
        "storkey": Storkey(),
        "storkey-local-field": Storkey("local-field"),
        "pseudo-inverse": PseudoInverse(),
        "perceptron": Perceptron(),
    }
)
PATTERN_MEMORIES: Mapping[str, Callable[[MaskMatrix], Memory]] = MappingProxyType(
    {"dense-associative": DenseAssociativeMemory, "coded": CodedMemory.of_patterns}
)
"""Memories that keep the masks themselves, by name: what makes one of them."""
_PUBLISHED = NeuronTraining()
_OURS = NeuronTraining(batches=200, cosine=True)
_FOUND = NeuronTraining(batches=200, cosine=True, cue=CueTraining())


@dataclass(frozen=True)
class Setup:
    """One way to recover masks. A step is `step_images` images; an evaluation of the entropy takes `batch` of them."""

    recipe: RecoveryRecipe
    rule: str
    """The memory: a name in `RULES` or `PATTERN_MEMORIES`."""
    batch: int
    step_images: int
    training: NeuronTraining = _PUBLISHED
    gate: Gate = "normalisation"
    output_gain: float = 1.0
    per_layer: bool = False
    """Whether a memory with couplings has them within each layer only, as the paper has it."""
    undecided: bool = False
    """Whether recovery starts at one half everywhere, as masks with a `CueTraining` need it, not at the masks' mean."""

    def __post_init__(self) -> None:
        check("rule", self.rule, (*RULES, *PATTERN_MEMORIES))

    def steps(self, evaluations: int) -> int:
        """Steps of `step_images` images that so many evaluations make, rounded up."""
        return -(-evaluations * self.batch // self.step_images)

    def objective(self, name: str, *, classes: int, outputs: int) -> Objective:
        """The cost of logits, by name: H has the temperature that the masks were trained with."""
        if name == "H" and self.training.cue is not None:
            return objectives.Entropy(self.training.cue.temperature)
        return make_objective(name, classes=classes, outputs=outputs)


SETUPS: Mapping[str, Setup] = MappingProxyType(
    {
        "paper": Setup(PaperRecipe(), "storkey", batch=64, step_images=64, per_layer=True),
        # Many annealings on tiny batches, where one on large batches finds 26 of 40 PermutedMNIST masks: where one ends
        # is chance for the most part, and checks on 32 images tell right from wrong. 5120 images at most.
        "mean-field": Setup(
            MeanFieldRecipe(steps=18, restarts=49, checks=8, cue_weight=4.0, aligned=0.95, patience=8),
            "pseudo-inverse",
            batch=4,
            step_images=128,
        ),
        # Last weights four times the published ones and the mask after Swish train masks of 84 instead of 80 %; the
        # entropy's gradient at the mean mask then says little, which costs this recipe a few more candidates.
        "search": Setup(
            SearchRecipe(),
            "dense-associative",
            batch=16,
            step_images=128,
            training=_OURS,
            gate="output",
            output_gain=4.0,
        ),
        # The same masks, trained to be found: one gradient and a recall, whatever the number of tasks; 0.9 points less.
        # Couplings ("pseudo-inverse") mix too many masks from about 100 on.
        "cue": Setup(
            CueRecipe(rising=True),
            "dense-associative",
            batch=128,
            step_images=128,
            training=_FOUND,
            gate="output",
            output_gain=4.0,
            undecided=True,
        ),
    }
)
WEIGHT_SETUPS: Mapping[str, Setup] = MappingProxyType(
    {
        "cue": Setup(CueRecipe(condense=10, power=0.5), "pseudo-inverse", batch=64, step_images=64),
        "mean-field": Setup(MeanFieldRecipe(steps=20), "pseudo-inverse", batch=64, step_images=64),
        "search": Setup(SearchRecipe(), "dense-associative", batch=16, step_images=128),
    }
)


def neuron_memory(masks: MaskMatrix, setup: Setup) -> Memory:
    """A memory of neuron masks: couplings by layer (the paper's), over all neurons, or one that keeps the masks."""
    if setup.rule in PATTERN_MEMORIES:
        return PATTERN_MEMORIES[setup.rule](masks)
    if setup.per_layer:
        return memory_per_layer(masks, RULES[setup.rule])
    signs = pt.from_matrix(masks)
    network = HopfieldNetwork(masks.spec.bits, RULES[setup.rule], centre=signs.mean(0))
    network.store(signs)
    return network


def memory_per_layer(masks: MaskMatrix, rule: Rule) -> BlockMemory:
    """A dense memory for each layer of the masks, as the paper has it, without centring."""
    memory = BlockMemory([HopfieldNetwork(layer.size, rule, centre=None) for layer in masks.spec])
    memory.store(pt.from_matrix(masks))
    return memory


def weight_memory(masks: MaskMatrix, rule: str) -> Memory:
    """A memory of weight masks, too long for couplings: the dual form, or one that keeps the masks and no more."""
    check("rule for weight masks", rule, ("hebbian", "storkey", "pseudo-inverse", *PATTERN_MEMORIES))
    return PATTERN_MEMORIES[rule](masks) if rule in PATTERN_MEMORIES else DualMemory(masks, RULES[rule])
