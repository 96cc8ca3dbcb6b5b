"""No path winds again: calls enter few modules, and the design page lists those that they enter."""

import numpy as np
import pytest

from maskstore.kernels import has_lookup
from maskstore.masks import bits
from tests.helpers import hops
from tests.helpers.design import PAGE

TEXT = PAGE.read_text()


def listed(what: str) -> list[str]:
    """The modules that the page lists for a call."""
    (line,) = (line for line in TEXT.splitlines() if line.startswith(f"- `{what}`, "))
    return line.split("`")[3::2]


def test_put_enters_few_modules(tmp_path):
    found = hops.of_put(tmp_path)
    assert len(found) <= 25
    assert sorted(found) == sorted(listed("bank.put"))


@pytest.mark.skipif(has_lookup(), reason="with AVX-512 compiled passes take the place of what the page lists")
def test_infer_task_enters_few_modules():
    found = hops.of_infer_task()
    assert len(found) <= 8
    assert sorted(found) == sorted(listed("infer_task"))


def test_supsup_train_enters_few_modules(tmp_path):
    found = hops.of_train(tmp_path)
    assert len(found) <= 12
    assert sorted(found) == sorted(listed("supsup train"))


def test_a_module_more_is_seen():
    assert hops.entered(lambda: None) == []
    assert hops.entered(lambda: bits.pack(np.ones(3, dtype=bool))) == ["maskstore/masks/bits.py"]
