"""Calls of a converted module: under a mask that each call brings, in any number of threads."""

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstore import MaskSpec
from supsup_models._names import expect, whole_number
from supsup_models.errors import MissingStatisticsError, NetworkError
from supsup_models.networks.base import PROTOTYPES, AnyMask, Extras, MaskedModel
from supsup_models.networks.convert import calls, statistics
from supsup_models.networks.convert.call_copy import Assigned, CallCopy
from supsup_models.networks.convert.each import EachStatistic, EachWeight, NotMixedError
from supsup_models.networks.convert.layers import MaskedParameter
from supsup_models.networks.convert.noise import noise_images
from supsup_models.networks.convert.own import Own, check_finite
from supsup_models.networks.convert.train_block import train_block, trains
from supsup_models.networks.own_masks import OwnMasks

# Newest first. A context variable, so that neither another thread nor another task of an event loop sees it.
_APPLIED: ContextVar[tuple["BoundModel", ...]] = ContextVar("applied", default=())
_NO_CLASS = -1e4  # a logit whose probability is zero, and finite in float16
_TRIED = (2, 3)
"""Numbers of images that are tried before a batch is run in which each image has its own mask."""


@dataclass(frozen=True, eq=False)
class BoundModel:
    """A converted model and one mask; it takes exactly the arguments that the module takes.

    Made by `ConvertedModel.bind`. Any number of threads may call it.

    Examples:
        >>> import torch
        >>> from supsup_models import convert
        >>> layer = torch.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)
        >>> model = convert(torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False))
        >>> causal = torch.nn.Transformer.generate_square_subsequent_mask(5)
        >>> task = model.bind(model.mask_of(model.initial_scores(task=0)))
        >>> task(torch.ones(5, 3, 8), mask=causal).shape  # the encoder's own mask
        torch.Size([5, 3, 8])
    """

    model: "ModuleWithMasks"
    weights: tuple[Tensor, ...]
    """W * mask, one tensor a layer."""
    statistics: Mapping[str, Tensor] | None
    """Those of the task; None stands for those of the batch."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns for these arguments, under the mask; NetworkError if the model was moved since."""
        own, bound = self.model.weights, self.weights[0]
        if (bound.dtype, bound.device) != (own.dtype, own.device):
            raise NetworkError(
                f"bound mask: expected a model that is still {bound.dtype} on {bound.device}, found {own.dtype} on "
                f"{own.device}; bind the mask again"
            )
        return self.model._call(self.weights, self.statistics, args, kwargs)


class ModuleWithMasks(MaskedModel, ABC):
    """A module whose masked weights are outside of it, and everything that runs it.

    `needs_extras` says whether a mask has to bring its statistics along.
    """

    def __init__(
        self,
        module: nn.Module,
        masked: tuple[MaskedParameter, ...],
        weights: Tensor,
        starts: statistics.Starts,
        skipped: frozenset[str],
        image_shape: tuple[int, ...] | None,
        own: Own,
        *,
        kept: bool,
    ) -> None:
        super().__init__()
        self.module = module
        self.spec = MaskSpec({parameter.name: parameter.shape for parameter in masked})
        self.register_buffer("weights", weights, persistent=kept)
        self._names = tuple(parameter.names for parameter in masked)
        self._assigned: dict[str, dict[str, Assigned]] = {}
        self._skipped, self.image_shape, self._kept_weights = skipped, image_shape, kept
        self._mixes: bool | None = None  # whether images of one batch can have masks of their own; not tried yet
        self._statistics, self._counts, self._own = tuple(starts.values), starts.counts, own
        fixed = {f"{path}.{name}" for path in own.normalisations for name in statistics.TRACKED}
        self._stored = tuple(name for name in self._statistics if name not in fixed)
        self._never_train = skipped.union(own.normalisations)
        self.own_parameters = own.names
        for index, start in enumerate(starts.values.values()):  # as buffers, so that they move with the model
            self.register_buffer(f"_start{index}", start, persistent=kept)
        self.register_load_state_dict_post_hook(statistics.forgive_counts)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output under a mask: `model(x, mask, ..., extras=extras)`; all else goes to the module.

        The second positional argument is the mask, a packed `Mask` or a dict of bool arrays by layer. `extras` are the
        task's statistics, which training gave and the bank keeps (`bank.extras(name)`); `extras="batch"` asks for those
        of the batch. With kept weights, the default are the module's own. `mask=` and `extras=` can also be given by
        name, unless the module's forward has parameters of these names, which then are meant. Where a module takes
        other arguments, `bind(mask)` and `apply_mask(mask)` are called exactly as the module is.

        Inside of `apply_mask`, a call without a mask runs under the block's. Any number of threads may call the model.

        Raises:
            MissingMaskError: The call gave no mask, and is in no block of its own thread.
            MissingStatisticsError: The network keeps running statistics, and the mask came without them.
            StatisticsError: Statistics that no network has: NaN, infinity, a variance below zero.
            SpecError, ShapeError, DeviceError: The mask, the extras or the images are those of another network.
        """
        applied = next((block for block in _APPLIED.get() if block.model is self), None)
        given = calls.tell_apart(
            self.module, args, kwargs, layers=self.spec.shapes, extras=self._extras, applied=applied is not None
        )
        args, kwargs = self._shaped_arguments(given.args, given.kwargs)
        if given.mask is not None or applied is None:
            applied = self.bind(self.needed_mask(given.mask), given.extras)
        elif given.extras is not None:
            applied = replace(applied, statistics=self._task_statistics(given.extras))
        return applied(*args, **kwargs)

    def bind(self, mask: AnyMask, extras: Extras | calls.BatchStatistics = None) -> BoundModel:
        """The model under one mask, to be called exactly as the module is; the mask is unpacked once.

        The weights are those that the model has now. If kept weights are loaded anew, bind the mask again.

        Arguments and errors are those of `model(x, mask, extras=extras)`.
        """
        weights = self.layer_weights(self.masked_weights(self.needed_mask(mask)))
        return BoundModel(self, tuple(weights), self._task_statistics(extras))

    @contextmanager
    def apply_mask(self, mask: AnyMask, extras: Extras | calls.BatchStatistics = None) -> Iterator[Self]:
        """Inside the block, calls without a mask run under this mask and these statistics; it is unpacked once.

        Blocks may be nested. A block holds for its own thread (and its own task of an event loop): a thread that is
        started inside it, such as a pool's, gets a MissingMaskError. Give it `bind(mask)`.

        Arguments and errors are those of `model(x, mask, extras=extras)`.
        """
        token = _APPLIED.set((self.bind(mask, extras), *_APPLIED.get()))
        try:
            yield self
        finally:
            _APPLIED.reset(token)

    def run_layers(self, images: Tensor, weights: Sequence[Tensor], extras: Extras = None) -> Tensor:
        """The module's output for images `(b, inputs)` or of the image's shape, under given weights, one a layer.

        Without extras, kept weights run with the module's own statistics, seeded ones with those of the batch.
        """
        values = self._own_statistics() if extras is None else self._task_statistics(extras)
        logits: Tensor = self._call(self.checked_layers(weights), values, (images,), {})
        if self._own.head is not None and logits.shape[1] < self.outputs:  # classes that the task does not have
            logits = F.pad(logits, (0, self.outputs - logits.shape[1]), value=_NO_CLASS)
        return logits

    def run_own(self, images: Tensor, own: OwnMasks, extras: Sequence[Extras] = ()) -> Tensor:
        """As of any network; straight from the packed bits if the module's layers can do that, which is tried once."""
        if self.own_parameters:
            return super().run_own(images, own, extras)
        if self._mixes is None and self.image_shape is not None and own.fits(images, self.weights):
            self._mixes = all(self._runs_mixed(count) for count in _TRIED)
        if not self._mixes or not own.fits(images, self.weights):
            return super().run_own(images, own, extras)
        try:
            with torch.no_grad():
                return self._call_each(images, own, extras)
        except NotMixedError:
            return super().run_own(images, own, extras)

    def _call_each(self, images: Tensor, own: OwnMasks, extras: Sequence[Extras]) -> Tensor:
        """The logits of each image under its own mask; NotMixedError if the module does more than `each.py` knows."""
        layers = self.layer_weights(self.weights)
        weights = [EachWeight.of(layer, own, index) for index, layer in enumerate(layers)]
        values: Mapping[str, Tensor] | None = self._own_statistics()
        if extras:
            of_rows = [values if each is None else each for each in extras]
            if any(row is None or calls.is_batch(row) for row in of_rows):
                raise NotMixedError  # those of the batch
            given = cast(list[Mapping[str, Any]], of_rows)
            rows = statistics.stacked(given, self._starts(), values=not self._trains())
            chosen = torch.from_numpy(own.chosen)
            values = {name: EachStatistic.of(each[chosen]) for name, each in rows.items()}
        elif values is None and self._statistics:
            raise NotMixedError
        logits: Tensor = self._call(weights, values, (images,), {})
        return logits

    def _runs_mixed(self, count: int) -> bool:
        """Whether so many images, each under a mask of its own, get what they get one by one.

        Tried with two numbers of images, so that the first dimension of what every layer takes must be that of images.
        """
        drawn = torch.Generator().manual_seed(count)
        noise = torch.randn(count, *cast(tuple[int, ...], self.image_shape), generator=drawn)
        masks = [self.mask_of(self.initial_scores(task)).words for task in range(count)]
        rows = np.stack([words & ~np.uint64(0x0F0F << task) for task, words in enumerate(masks)])  # no two alike
        own = OwnMasks(self.spec, rows, np.arange(count))
        start = self._measured(self.masked_weights(own.mask(0))) if self._statistics else {}
        extras = [{name: value * (1 + 0.1 * row) for name, value in start.items()} for row in range(count)]
        with torch.no_grad():
            try:
                found = self._call_each(noise, own, extras if start else ())
            except NotMixedError:
                return False
            wanted = super().run_own(noise, own, extras if start else ())
        return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)

    @property
    def needs_extras(self) -> bool:
        """Whether a mask runs only with extras of its own: a head, or statistics on weights that are not kept."""
        return self._own.head is not None or (bool(self._statistics) and not self._kept_weights)

    @property
    def needs_head(self) -> bool:
        """Whether each task has a head of its own."""
        return self._own.head is not None

    def needed_extras(self, extras: Extras) -> Extras:
        """The extras of a mask; MissingStatisticsError if it needs some and there are none."""
        if extras is None and self._own.head is not None:
            raise MissingStatisticsError(
                f"extras: expected the task's own head {self._own.of_head[0]!r}, found none; training gives it, and "
                "bank.extras(name) has it"
            )
        return super().needed_extras(extras)

    def _call(
        self,
        weights: Sequence[Tensor],
        values: Mapping[str, Tensor] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What the module returns under given weights and statistics; None stands for those of the batch."""
        args, kwargs = self._shaped_arguments(args, kwargs)
        copy = CallCopy(
            self.module,
            self._assigned,
            train=trains(self),
            skipped=self._never_train,
            differentiated=torch.is_grad_enabled() and any(weight.requires_grad for weight in weights),
        )
        for names, weight in zip(self._names, weights, strict=True):
            for name in names:
                copy.put(name, weight)
        statistics.put_in(copy, self._statistics, values)
        for name in self._own.names:
            if values is not None and name in values:
                copy.put(name, values[name])
        try:
            result = copy.module(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError) as error:
            known = calls.named(error, args, self.weights, copy.module, images=self.image_shape is not None)
            if known is None:
                raise
            raise known from error
        copy.end()
        return result

    def _task_statistics(self, extras: Extras | calls.BatchStatistics) -> Mapping[str, Tensor] | None:
        """The statistics that a task runs with, None for those of the batch; an error if they are missing."""
        if calls.is_batch(extras):
            self.needed_extras(None if self._own.head is not None else {})
            return None
        if extras is not None:
            return self._values(cast(Mapping[str, Any], extras))
        if not self._trains():
            self.needed_extras(extras)
        return self._own_statistics()

    def _values(self, extras: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """What a call puts into the module for a task: statistics and parameters, from extras stored or in training."""
        starts = self._starts()
        expect("extras", extras, Mapping, "a dict of arrays by name")
        extras = {name: value for name, value in extras.items() if name != PROTOTYPES}  # these are for inference
        if not self._own.names:
            return statistics.checked(extras, starts, values=not self._trains())
        most = self.classes or None
        found = self._own.values(extras, self.module, most)
        if not self._trains():
            check_finite(found)
        rest = {name: value for name, value in extras.items() if name not in found}
        stored = {name: starts[name] for name in self._stored}
        return starts | statistics.checked(rest, stored, values=not self._trains()) | found

    @property
    def _extras(self) -> tuple[str, ...]:
        """The names of a task's extras as they are stored."""
        return (*self._stored, *self._own.names)

    def _own_statistics(self) -> Mapping[str, Tensor] | None:
        """Without extras: the module's own statistics with kept weights, and otherwise those of the batch."""
        if not self._statistics or (self.needs_extras and not self._kept_weights):
            return None
        return self.initial_statistics() if self._trains() else self._starts()

    def _trains(self) -> bool:
        return self.module.training or trains(self)

    def _shaped_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call's arguments with the images, the first of them, in the module's own shape."""
        if args:
            return ((self._shaped(args[0]), *args[1:]) if self._is_images(args[0]) else args), kwargs
        first = calls.first_parameter(self.module)
        if first is not None and first in kwargs and self._is_images(kwargs[first]):
            kwargs = {**kwargs, first: self._shaped(kwargs[first])}
        return args, kwargs

    def _is_images(self, value: object) -> bool:
        """Whether a first argument is to be checked; without an image shape, the module may take anything."""
        return self.image_shape is not None or isinstance(value, Tensor)

    def _shaped(self, x: Tensor) -> Tensor:
        """Images in the module's own shape. DeviceError or ShapeError for those it cannot take."""
        self.check_device(x)
        return calls.shaped(x, self.image_shape, self.weights)

    @contextmanager
    def training_mode(self, step: int) -> Iterator[None]:
        """Calls inside train, skipped parts excepted, with dropout drawn from the seed and the step.

        A block holds for its own thread. Blocks of several threads wait for each other, because torch has one generator
        for all threads.
        """
        with train_block(self, self.seed, whole_number("step", step), self.device):
            yield

    def train(self, mode: bool = True) -> Self:
        """As torch's, but skipped modules stay in evaluation mode: they are the same for every task."""
        super().train(mode)
        for path in self._skipped:
            self.module.get_submodule(path).training = False
        return self

    def initial_statistics(self) -> dict[str, Tensor]:
        """Running statistics that a task starts from, by buffer name: new tensors."""
        return {name: start.clone() for name, start in self._starts().items()}

    def initial_extras(self, classes: int | None = None) -> dict[str, Tensor]:
        """Statistics and parameters that training of a task starts from; a head of zeros for so many classes."""
        most = self.classes or None
        if classes is not None and most is not None and not 1 <= classes <= most:
            raise NetworkError(f"head: expected 1 to {most} classes, as the network was converted for, found {classes}")
        starts = self.initial_statistics()
        own = self._own.initial(self.module, most if classes is None else classes)
        return {name: starts[name] for name in self._stored} | own

    def mixture_statistics(self, flat_weights: Tensor) -> Extras:
        """Kept weights: the statistics that the module came with. Sparse masks on seeded weights: those of noise.

        Noise images tell how large the activations of a mixture are, and nothing of any task. So a single image can be
        asked, the answer does not depend on the images beside it, and nothing is stored. Other masks are not trained to
        be told apart that way: in a mixture of them, images are normalised with the statistics of their batch.
        """
        if not self._statistics or self._kept_weights or self.image_shape is None or self.densities is None:
            return self._own_statistics()
        return self._measured(flat_weights)

    def _measured(self, flat_weights: Tensor) -> dict[str, Tensor]:
        """The statistics of noise images under effective weights."""
        assert self.image_shape is not None
        with torch.no_grad():
            copy = CallCopy(self.module, self._assigned)
            for names, weight in zip(self._names, self.layer_weights(flat_weights.detach()), strict=True):
                for name in names:
                    copy.put(name, weight)
            return statistics.measured(copy, self.initial_statistics(), noise_images(self.image_shape, self.weights))

    def _starts(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"_start{index}") for index, name in enumerate(self._statistics)}
