"""Learning from a stream of batches that never says which task a batch is from, nor when it changes (scenario NNs).

The `Allocator` looks at a batch's images before anything is learned from them, and says which mask to go on with. It is
asked every `check_every` batches, and when a few images of a batch look unusual. A mask that is left is **put away**:
it is compared with the others on its own last images, and merged where one of the two is superfluous. Labels reach the
training step and nothing else.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from maskstore import Mask, MaskMatrix
from supsup_models._names import expect
from supsup_models.continual.allocation import AllocationConfig, Allocator, Candidate, mask_preference, mean_entropy
from supsup_models.data import checked_images, checked_labels
from supsup_models.errors import NetworkError
from supsup_models.networks import MaskedNetwork, entropy
from supsup_models.training import Recipe, RMSProp, named_recipe
from supsup_models.training.steps import Step, make_step

_WATCHED = 32  # images of a batch
_MEMORY = 8  # batches that the usual entropy is averaged over


@dataclass(frozen=True)
class KnownMask:
    """A mask that was put away.

    Attributes:
        mask: The mask.
        number: That of the seeded scores that it was trained from.
        batches: How many batches it was trained for.
        level: The mean entropy of its own last images under it, in nats.
    """

    mask: Mask
    number: int
    batches: int
    level: float


@dataclass(frozen=True)
class PutAway:
    """What changed when a mask was put away.

    Attributes:
        kept: The mask by its name, unless it was superfluous.
        dropped: Names of masks that were superfluous.
        batch: How many batches have been seen.
        allocated: How many masks have been allocated.
    """

    kept: Mapping[str, KnownMask]
    dropped: tuple[str, ...]
    batch: int
    allocated: int


class IdentityFreeLearner:
    """Learns masks from a stream without task identity.

    With `known`, `batch` and `allocated` of an earlier learner, as they were when it put a mask away, a new learner
    goes on exactly as the earlier one did.

    Args:
        model: The network.
        recipe: How masks are trained: threshold masks, with the network's `weight_gain`.
        config: How masks are chosen, allocated and merged.
        known: Masks that an earlier learner put away, by name.
        batch: How many batches it had seen.
        allocated: How many masks it had allocated.
        on_put_away: Called when a mask is put away.

    Attributes:
        known: The masks that were put away, by name. One more may be in training.
        batch: How many batches have been seen.
        allocated: How many masks have been allocated.

    Raises:
        NetworkError: The recipe does not fit the network, or trains sparse masks.

    Source:
        Wortsman et al. 2020, "Supermasks in Superposition", section 3.4; the verification and the merging are ours.

    Examples:
        The task changes after 30 batches, which the learner finds out by itself:

        >>> from supsup_models import AllocationConfig, IdentityFreeLearner, MaskedNetwork, Recipe, RMSProp, open_stream
        >>> model = MaskedNetwork("lenet-300-100", inputs=64, outputs=50, classes=10, seed=0)
        >>> config = AllocationConfig(check_every=10)
        >>> learner = IdentityFreeLearner(model, Recipe("quick", RMSProp(4e-4)), config)
        >>> for task in open_stream("permuted-digits", tasks=2):
        ...     for start in range(0, 30 * 32, 32):
        ...         rows = slice(start, start + 32)
        ...         loss = learner.observe(task.train.images(rows), task.train.labels[rows])
        >>> learner.finish()
        >>> learner.masks().names
        ('mask-0', 'mask-1')
    """

    def __init__(
        self,
        model: MaskedNetwork,
        recipe: Recipe | str,
        config: AllocationConfig = AllocationConfig(),
        *,
        known: Mapping[str, KnownMask] | None = None,
        batch: int = 0,
        allocated: int = 0,
        on_put_away: Callable[[PutAway], None] | None = None,
    ) -> None:
        expect("model", model, MaskedNetwork, "a MaskedNetwork")
        recipe = named_recipe(recipe)
        expect("config", config, AllocationConfig, "an AllocationConfig")
        if recipe.sparse is not None:
            raise NetworkError(
                f"recipe {recipe.name!r}: expected threshold masks without task identity, found sparse ones"
            )
        if recipe.weight_gain != model.weight_gain:
            raise NetworkError(
                f"recipe {recipe.name!r}: expected a network of weight_gain {recipe.weight_gain}, "
                f"found {model.weight_gain}"
            )
        self.model = model
        self.known: dict[str, KnownMask] = dict(known or {})
        self.batch, self.allocated = batch, allocated
        self._recipe, self._config = recipe, config
        self._allocator = Allocator(model, config)
        self._on_put_away = on_put_away
        self._step: Step | None = None
        self._name, self._number, self._batches = "", 0, 0
        self._recent: deque[Tensor] = deque(maxlen=config.buffer)  # images only
        self._matrix = self.masks()
        self._untrained: Mask | None = None
        self._ceiling = log(model.outputs)  # the most that the entropy of images can be
        self._usual = self._ceiling  # that of the watched images, lately

    def observe(self, images: Tensor, labels: Tensor) -> float:
        """Learn from one batch.

        Args:
            images: `(b, inputs)`.
            labels: `(b,)` integers.

        Returns:
            The batch's mean cross-entropy before the step.

        Raises:
            ShapeError: The batch does not fit the network. As with the other errors, nothing has changed then.
            ImageValueError: The images hold NaN or infinity.
            LabelValueError: A label is none of the network's classes.
        """
        images = checked_images(images, self.model)
        labels = checked_labels(labels, self.model.classes).to(images.device)
        if self._step is None or self.batch % self._config.check_every == 0 or self._looks_unusual(images):
            self._choose(images)
        assert self._step is not None
        # The stream has no known end, so a rate cannot be scheduled towards it.
        loss = self._step.step(images, labels, self._recipe.optimiser.learning_rate)
        self._recent.append(images)
        self._batches += 1
        self.batch += 1
        return float(loss)

    def finish(self) -> None:
        """Put the mask in training away. Learning may go on afterwards."""
        if self._step is not None:
            self._put_away()

    def masks(self) -> MaskMatrix:
        """The masks that were put away, packed, in the order in which they were put away last."""
        return MaskMatrix(self.model.spec, [known.mask for known in self.known.values()], list(self.known))

    def _choose(self, images: Tensor) -> None:
        current = None if self._step is None else Candidate(self._mask(), self._level(self._mask()))
        if self._ask(current, images) == len(self._matrix) and current is not None:
            return
        if current is not None:
            self._put_away()
        # asked again without a current mask and after merging, as a learner that goes on from here would ask
        row = self._ask(None, images)
        if row is None:
            self._start(f"mask-{self.allocated}", self.allocated, 0, self.model.initial_scores(self.allocated))
            self.allocated += 1
        else:
            name = self._matrix.names[row]
            known = self.known.pop(name)
            self._matrix = self.masks()
            self._start(name, known.number, known.batches, self._scores_of(known))

    def _looks_unusual(self, images: Tensor) -> bool:
        """Whether a few of the images are much less certain than those before them; cheap enough for every batch.

        Without it a task that ends between two checks would have the next one trained into its mask until the second.
        """
        if not self._config.verify or self._step is None:
            return False
        with torch.no_grad():
            effective = self.model.effective_weights(self._step.scores)
            found = float(entropy(self.model.run_with(images[:_WATCHED], effective)).mean())
        rise = (found - self._usual) / max(self._ceiling - self._usual, 1e-6)
        if rise > self._config.tolerance and self._usual < (1 - self._config.tolerance) * self._ceiling:
            return True
        self._usual += (found - self._usual) / _MEMORY
        return False

    def _ask(self, current: Candidate | None, images: Tensor) -> int | None:
        levels = [known.level for known in self.known.values()]
        return self._allocator.choose(self._matrix, levels, current, self._untrained_mask(), images).row

    def _start(self, name: str, number: int, batches: int, scores: Tensor) -> None:
        self._name, self._number, self._batches = name, number, batches
        by_hand = isinstance(self._recipe.optimiser, RMSProp)  # in float32: a learner that goes on finds the same masks
        self._step = make_step(self.model, scores, self._recipe, stepping="fused" if by_hand else "autograd")
        self._recent.clear()
        self._untrained = None
        self._usual = self._ceiling  # until a few batches have said otherwise

    def _put_away(self) -> None:
        mask = self._mask()
        name, entry = self._name, KnownMask(mask, self._number, self._batches, self._level(mask))
        dropped = self._merge(name, entry)
        if name not in dropped:
            self.known[name] = entry
        self._step = None
        self._recent.clear()
        self._matrix = self.masks()
        if self._on_put_away is not None:
            kept = {} if name in dropped else {name: entry}
            self._on_put_away(PutAway(kept, dropped, self.batch, self.allocated))

    def _merge(self, name: str, entry: KnownMask) -> tuple[str, ...]:
        """Drop the worse of each pair of twins: of the mask that is put away and the others."""
        dropped: list[str] = []
        while self._config.merge and self.known:
            images = torch.cat(tuple(self._recent))
            others = self._shortlisted(images)
            twin = self._allocator.find_twin(entry.mask, others, images, self._untrained_mask())
            if twin is None:
                break
            other = self.known[twin]
            if mean_entropy(self.model, other.mask, images) <= entry.level:
                return (*dropped, name)
            dropped.append(twin)
            del self.known[twin]
            self._matrix = self.masks()
        return tuple(dropped)

    def _shortlisted(self, images: Tensor) -> Iterable[tuple[str, Candidate]]:
        scores = mask_preference(self.model, self._matrix, None, images)
        for row in scores.argsort(descending=True, stable=True)[: self._config.shortlist].tolist():
            name = self._matrix.names[row]
            yield name, Candidate(self.known[name].mask, self.known[name].level)

    def _mask(self) -> Mask:
        assert self._step is not None
        return self.model.mask_of(self._step.scores)

    def _level(self, mask: Mask) -> float:
        return mean_entropy(self.model, mask, torch.cat(tuple(self._recent)))

    def _untrained_mask(self) -> Mask:
        if self._untrained is None:
            self._untrained = self.model.mask_of(self.model.initial_scores(self.allocated))
        return self._untrained

    def _scores_of(self, known: KnownMask) -> Tensor:
        """Scores to go on from: only the mask was kept, so each initial score is given the sign that its bit has."""
        bits = torch.from_numpy(known.mask.flat()).to(self.model.device)
        magnitude = self.model.initial_scores(known.number).abs()
        return torch.where(bits, magnitude, -magnitude)
