"""`put_many`: several masks in one transaction, those that are nearly equal to another one coded against it."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

from maskstore.bank.blocks import AnyMask
from maskstore.bank.coding import decode_mask
from maskstore.bank.putting.near import NearMasks
from maskstore.bank.putting.new_mask import NewMask
from maskstore.bank.source import MaskSource
from maskstore.codecs import AnyCodec
from maskstore.errors import BackboneError, CorruptError, SpecError
from maskstore.masks import Mask
from maskstore.priors import Prior

_KNOWN = 16  # masks of the bank that are looked at,
_KNOWN_BITS = 1 << 26  # of so many bits together


class PutsMany(MaskSource):
    """What stores several masks at once."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All changes in the block together, or none."""

    @abstractmethod
    def _put(self, new: NewMask, *, overwrite: bool) -> None:
        """Store a mask."""

    def put_many(
        self,
        masks: Mapping[str, AnyMask] | Iterable[tuple[str, AnyMask]],
        *,
        meta: Mapping[str, Mapping[str, Any]] | None = None,
        extras: Mapping[str, Mapping[str, Any]] | None = None,
        codec: AnyCodec = "auto",
        prior: Prior | Mapping[str, Prior] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Store several masks, all or none, durable together: faster than one `put` after the other.

        A mask that is equal or nearly equal to another one of the call, or of a few of the bank, is coded against that
        one if it then takes fewer bytes. Samples of their bits tell which may be. Masks with more than 268 435 456 bits
        are not compared. `compact(level="max")` looks for more relations, and takes longer.

        Args:
            masks: Task name to mask, or (name, mask) pairs; a mask is what `put` takes.
            meta, extras: What to store beside a mask, by task name.
            codec: As in `put`.
            prior: As in `put`: one for all masks, or one for each task name.
            overwrite: Replace masks of these names.

        Raises:
            SpecError: `meta`, `extras` or `prior` has a name that no mask has. What else is raised is as in `put`, and
                the bank is then as it was before.

        Examples:
            >>> import numpy as np, tempfile
            >>> from maskstore import MaskBank, MaskSpec
            >>> rng = np.random.default_rng(0)
            >>> first = rng.random((300, 784)) < 0.1
            >>> masks = {f"task-{i}": {"fc1": first ^ (rng.random((300, 784)) < 0.001 * i)} for i in range(3)}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     with MaskBank.create(f"{folder}/a.bank", MaskSpec.of(masks["task-0"])) as bank:
            ...         bank.put_many(masks, meta={"task-2": {"accuracy": 0.95}})
            ...         [(info.prior["id"], round(8 * info.coded_bytes / first.size, 2)) for info in bank.infos()]
            [('uniform', 0.47), ('reference', 0.01), ('reference', 0.02)]
        """
        priors: Mapping[str, Any] = prior if isinstance(prior, Mapping) else {}
        beside = {"meta": meta or {}, "extras": extras or {}, "prior": priors}
        needed = {task for each in priors.values() if isinstance(each, Prior) for task in each.tasks}
        near, names = NearMasks(self.spec), set[str]()
        with self.transaction():
            for name, mask in self._some_alone():
                near.add(name, mask)
            for name, given in masks.items() if isinstance(masks, Mapping) else masks:
                known = prior.get(name) if isinstance(prior, Mapping) else prior
                some = None if name in needed else near
                new = NewMask(name, given, codec, known, beside["meta"].get(name), beside["extras"].get(name), some)
                self._put(new, overwrite=overwrite)
                names.add(name)
            for what, by_name in beside.items():
                if unknown := [name for name in by_name if name not in names]:
                    raise SpecError(f"{what}: expected names of the masks that are put, found {unknown[0]!r:.80}")

    def _some_alone(self) -> Iterator[tuple[str, Mask]]:
        """A few of the masks that are here already, evenly spaced, without those that need others."""
        names, count = list(self), min(_KNOWN, _KNOWN_BITS // max(1, self.spec.bits))
        for name in names[:: max(1, -(-len(names) // count))] if count else []:
            row, mask = self.record(name), None
            with suppress(BackboneError, CorruptError):  # what cannot be read is no reference
                mask = None if row.bases else decode_mask(row, self.spec)
            if mask is not None:
                yield name, mask
