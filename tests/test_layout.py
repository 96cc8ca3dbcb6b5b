"""The rules of the house, and that each of them can fail. `docs/design.md` says what they are for."""

from pathlib import Path

import pytest

from tests.helpers import house as rules
from tests.helpers.house import House

ROOT = Path(__file__).parents[1]
TOP = {"maskstore": 6, "hopfield": 7, "supsup_models": 5}


@pytest.fixture(scope="module")
def house() -> House:
    return House.of(ROOT)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(house, rule):
    assert rule(house) == []


@pytest.mark.parametrize(("package", "most"), TOP.items())
def test_few_modules_stand_at_the_top_of_a_package(package, most):
    assert len(list((ROOT / package).glob("*.py"))) <= most


PLANTED = [
    (rules.circles, "maskstore.masks.bits", "from maskstore.masks.matrix import MaskMatrix"),
    (rules.circles, "maskstore.files.values", "def f():\n    from maskstore.files.npz import read_npz"),
    (rules.upward, "maskstore.masks.bits", "from maskstore.codecs import Raw"),
    (rules.upward, "maskstore.errors", "def f():\n    import supsup_models.data"),
    (rules.upward, "hopfield.patterns", "from supsup_models import convert"),
    (rules.upward, "supsup_models.training.many", "from supsup_models.inference import infer_task"),
    (rules.upward, "supsup_models.attic", "import numpy"),
    (rules.insides, "hopfield.capacity", "from maskstore.bank.rows import x"),
    (rules.insides, "hopfield.capacity", "import maskstore.bank.rows"),
    (rules.insides, "hopfield.capacity", "from maskstore.bank import rows"),
    (rules.insides, "supsup_models.runs.load", "def f():\n    from supsup_models.inference.infer import infer_task"),
    (rules.insides, "supsup_models.runs.load", "from maskstore.bank import _nothing_that_it_lists"),
    (rules.misplaced, "maskstore.masks.bits", "import torch"),
    (rules.misplaced, "maskstore.bank.rows", "def f():\n    from torch import nn"),
    (rules.misplaced, "maskstore.interop.readers.torch_files", "import torch"),
    (rules.misplaced, "supsup_models.runs.load", "from llvmlite import ir"),
    (rules.shadowed, "maskstore.bank", "from maskstore.bank.rows import rows"),
]


@pytest.mark.parametrize(("rule", "module", "source"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_violation_is_found(house, rule, module, source):
    found = rule(house.with_module(module, source))
    assert any(module in line for line in found)


def test_a_crowded_folder_is_found(house):
    for number in range(rules.MOST_MODULES):
        house = house.with_module(f"maskstore.codecs.codec{number}", "")
    assert any("maskstore.codecs:" in line for line in rules.crowded(house))


def test_every_folder_says_what_it_is():
    for package in rules.PACKAGES:
        for face in (ROOT / package).rglob("__init__.py"):
            assert face.read_text().startswith('"""'), face
