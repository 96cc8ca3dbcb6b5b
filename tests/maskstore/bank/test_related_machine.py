"""Masks coded against other masks, in any order of puts, deletes, compactions and merges: none changes another."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from maskstore import Mask, MaskBank
from maskstore.bank import Maintenance, compact
from maskstore.errors import CodecError, TaskNotFoundError
from maskstore.interop.merging import merge
from maskstore.priors import Reference, RunningMean
from tests.helpers.related_masks import GIVEN, PARENT, SPEC, like


class RelatedMachine(RuleBasedStateMachine):
    """Random puts, some of them against others; deletes, replacements, compactions, merges; and a dict beside it."""

    names = Bundle("names")

    @initialize()
    def create(self):
        self.folder = Path(tempfile.mkdtemp())
        self.bank = MaskBank.create(self.folder / "a.bank", SPEC)
        self.model: dict[str, Mask] = {}

    def _store(self, name, seed, prior):
        mask = like(PARENT, 0.05, seed)
        self.bank.put(name, mask, prior=prior, overwrite=True, meta={"n": seed}, extras={"x": np.arange(seed % 3)})
        self.model[name] = mask

    @rule(target=names, name=st.sampled_from("abcdefgh"), seed=st.integers(1, 1000), given=st.sampled_from(GIVEN))
    def put_alone(self, name, seed, given):
        self._store(name, seed, given)
        return name

    @rule(
        target=names,
        name=st.sampled_from("abcdefgh"),
        of=st.lists(names, min_size=1, max_size=4, unique=True),
        seed=st.integers(1, 1000),
        given=st.sampled_from(GIVEN),
        fails=st.booleans(),
    )
    def put_against_others(self, name, of, seed, given, fails):
        prior = RunningMean(tuple(of), given=given) if len(of) > 1 else Reference(of[0], given=given)
        before = dict(self.model)
        try:
            with self.bank.transaction():
                self._store(name, seed, prior)
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            self.model = before
        except TaskNotFoundError:
            assert not set(of) <= set(before)
        except CodecError:
            needy = {info.name for info in self.bank.infos() if "tasks" in info.prior}
            refused = bool(needy & set(of))
            assert refused
        return name

    @rule(name=names)
    def delete(self, name):
        if name in self.model:
            self.bank.delete(name)
            del self.model[name]

    @rule(level=st.sampled_from(["fast", "max"]))
    def compact(self, level):
        self.bank.close()
        compact(self.folder / "a.bank", level=level)
        self.bank = MaskBank.open(self.folder / "a.bank", "a")

    @rule(reverse=st.booleans())
    def merge_into_a_new_bank(self, reverse):
        """The merged bank takes the old one's place: its rows came with all that they need."""
        self.bank.close()
        target = self.folder / "merged.bank"
        if reverse and self.model and "first" not in self.model:  # one mask is there already, under the name of another
            with MaskBank.create(target, SPEC) as bank:
                bank.put("first", next(iter(self.model.values())))
            self.model = {"first": next(iter(self.model.values())), **self.model}
        merge([str(self.folder / "a.bank")], target)
        target.replace(self.folder / "a.bank")
        self.bank = MaskBank.open(self.folder / "a.bank", "a")

    @rule()
    def layers_and_verify(self):
        assert self.bank.verify() == len(self.model)
        for name, mask in self.model.items():
            assert np.array_equal(self.bank.layer(name, "fc2"), mask.layer("fc2"))
            needed = self.bank.info(name).prior.get("tasks", [])
            assert all(other == "" or other in self.model for other in needed)
            assert len(self.bank.record(name).bases) == len(needed) <= 15

    @invariant()
    def every_mask_is_as_it_was_put(self):
        assert list(self.bank) == list(self.model)
        for name, mask in self.bank.masks():
            assert mask == self.model[name]
        assert all(not base.record.bases for row in self.bank.records() for base in row.bases)

    def teardown(self):
        for name in list(self.model):
            self.bank.delete(name)
        assert Maintenance(self.bank).snapshots() == []
        assert self.bank.verify() == 0
        self.bank.close()
        shutil.rmtree(self.folder)


TestRelatedMachine = RelatedMachine.TestCase
TestRelatedMachine.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
