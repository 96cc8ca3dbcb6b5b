"""Priors: their JSON, and the contexts that they tell a coder."""

import numpy as np
import pytest

from maskstore.errors import CodecError
from maskstore.masks import bits
from maskstore.priors import Reference, RunningMean, SeededScores, Uniform, prior_from_config, prior_to_json
from tests.helpers.masks import random_mask
from tests.helpers.related_masks import GIVEN, SPEC


@pytest.mark.parametrize(
    "config",
    [
        {"id": "reference", "task": 3},
        {"id": "reference", "given": {"id": "reference"}},
        {"id": "reference", "given": {"id": "reference", "given": {"id": "reference", "given": {}}}},
        {"id": "running-mean", "of": ["a"]},
        {"id": "running-mean", "of": ["a", "a"]},
        {"id": "running-mean", "of": "ab"},
        {"id": "running-mean", "of": [str(n) for n in range(16)]},
        {"id": "running-mean", "given": 7},
    ],
)
def test_priors_that_make_no_sense_are_refused(config):
    with pytest.raises(CodecError):
        prior_from_config(config)


def test_priors_read_back_without_the_names():
    prior = RunningMean(("a", "b"), given=SeededScores(1, 2))
    read = prior_from_config({"id": "running-mean", "given": {"id": "seeded-scores", "seed": 1, "task": 2}})
    assert prior_to_json(prior) == prior_to_json(read)
    assert (prior.tasks, read.tasks) == (("a", "b"), ())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 15])
@pytest.mark.parametrize("given", GIVEN)
def test_contexts_say_how_many_have_the_bit(count, given):
    others = [random_mask(SPEC, 0.5, n) for n in range(count)]
    prior = Reference(given=given) if count == 1 else RunningMean(given=given)
    known = prior.contexts(SPEC, 0, others)
    counts = sum(bits.unpack(mask.words[SPEC.layers[0].packed], 1200).astype(int) for mask in others)
    assert known.ids.max() < known.levels * known.classes <= 256
    assert known.levels & (known.levels - 1) == 0
    if isinstance(given, Uniform):
        assert known.ids.tolist() == counts.tolist()
        return
    alone, groups = given.contexts(SPEC, 0), 2 if count == 1 else 4
    assert (known.ids % 4 == alone.ids % 4).all()
    assert (known.ids // 4 // groups == alone.ids // 4 // groups).all()
    shares = (known.ids // 4 % groups) / (groups - 1)
    assert np.abs(shares - counts / count).max() <= 0.5 / (groups - 1) + 1e-9
    assert len(known.directions) == known.classes
