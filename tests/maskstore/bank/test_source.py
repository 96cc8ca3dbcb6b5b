"""Banks and shards are mappings, and read alike."""

from collections.abc import Mapping

import numpy as np
import pytest

from maskstore import MaskBank, MaskSource, open_source
from maskstore.errors import TaskNotFoundError
from maskstore.interop import write_shard
from tests.helpers.foreign_files import example_bank


@pytest.fixture(params=["a.bank", "a.shard"])
def source(request, tmp_path):
    with example_bank(tmp_path / "a.bank") as bank:
        write_shard(bank, tmp_path / "a.shard")
    with open_source(tmp_path / request.param) as opened:
        yield opened


def test_a_source_is_a_mapping(source):
    assert isinstance(source, Mapping)
    assert isinstance(source, MaskSource)
    names = list(source)
    assert list(source.keys()) == names
    assert len(source) == len(source.items()) == len(source.values()) == len(names) > 1
    assert dict(source.items()) == dict(source) == dict(source.masks())
    assert list(source.values()) == [source[name] for name in names]
    assert (names[0], source[names[0]]) in source.items()
    assert source.get(names[0]) == source[names[0]]
    assert source.get("none") is source.get(3) is None  # type: ignore[call-overload]
    assert "none" not in source
    with pytest.raises(TaskNotFoundError, match=f"did you mean '{names[0]}'"):
        source[names[0].upper()]


def test_two_open_files_are_equal_only_if_they_are_one(source, tmp_path):
    with MaskBank.open(tmp_path / "a.bank") as other:
        assert source == source
        assert source != other
        assert len({source, other}) == 2


def test_both_read_alike(source, tmp_path):
    with MaskBank.open(tmp_path / "a.bank") as bank:
        assert source.verify() == bank.verify()
        assert source.matrix().names == bank.matrix().names
        assert source.meta == bank.meta
        for name in bank:
            assert source.task_meta(name) == bank.task_meta(name)
            assert source.extras(name).keys() == bank.extras(name).keys()
            for layer in bank.spec:
                assert np.array_equal(source.layer(name, layer.name), bank.layer(name, layer.name))
