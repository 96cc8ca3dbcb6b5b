"""The rules of the house, and that each of them can fail. `docs/design.md` says what they are for."""

import re
from pathlib import Path

import pytest

from tests.helpers import house as rules
from tests.helpers.modules import PACKAGES, House

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
    modules = {path.stem for path in (ROOT / package).glob("*.py")}
    assert len(modules - {"__main__"}) <= most  # Python looks for that one here, and it is a call


PLANTED = [
    (rules.circles, "maskstore.masks.bits", "from maskstore.masks.matrix import MaskMatrix"),
    (rules.circles, "maskstore.files.os_errors", "def f():\n    from maskstore.files.atomic import publish"),
    (rules.upward, "maskstore.masks.bits", "from maskstore.codecs import Raw"),
    (rules.upward, "maskstore.errors", "def f():\n    import supsup_models.data"),
    (rules.upward, "hopfield.patterns", "from supsup_models import convert"),
    (rules.upward, "supsup_models.training.many", "from supsup_models.inference import infer_task"),
    (rules.upward, "supsup_models.attic", "import numpy"),
    (rules.upward, "supsup_models.runs.load", "from tests.helpers.masks import random_mask"),
    (rules.insides, "hopfield.capacity", "from maskstore.bank.rows import x"),
    (rules.insides, "hopfield.capacity", "import maskstore.bank.rows"),
    (rules.insides, "hopfield.capacity", "from maskstore.bank import rows"),
    (rules.insides, "supsup_models.runs.load", "def f():\n    from supsup_models.inference.infer import infer_task"),
    (rules.insides, "supsup_models.runs.load", "from maskstore.bank import _nothing_that_it_lists"),
    (rules.insides, "hopfield.capacity", "from maskstore.bank.rows import *"),
    (rules.insides, "hopfield.capacity", "from maskstore.bank import *"),
    (rules.insides, "hopfield.capacity", "import maskstore.bank as b\nb.rows"),
    (rules.insides, "hopfield.capacity", "import maskstore\ndef f():\n    return maskstore.bank.rows.x"),
    (rules.insides, "hopfield.capacity", "from maskstore import bank\nbank.nothing_that_it_lists"),
    (rules.insides, "hopfield.capacity", "import importlib\nimportlib.import_module('maskstore.bank.rows')"),
    (rules.insides, "hopfield.capacity", "__import__('maskstore.bank.rows')"),
    (rules.insides, "maskstore.masks.bits", "if TYPE_CHECKING:\n    from maskstore.files.npz import x"),
    (rules.insides, "maskstore.masks.bits", "from ..files.npz import x"),
    (rules.insides, "maskstore.masks.bits", "from .. import bank\nbank.rows.x"),
    (rules.insides, "maskstore.bank.rows", "from maskstore.priors import _private"),
    (rules.insides, "hopfield.capacity", "from maskstore import _version"),
    (rules.insides, "maskstore.bank.rows", "from maskstore.codecs.coders import rans"),
    (rules.insides, "supsup_models.runs.load", "from supsup_models.inference.compiled import fits"),
    (rules.insides, "supsup_models.training.task", "from maskstore.codecs import tables"),
    (rules.misplaced, "maskstore.masks.bits", "import torch"),
    (rules.misplaced, "maskstore.cli.app", "def f():\n    from maskstore.torch import PackedMasks"),
    (rules.misplaced, "maskstore", "from maskstore import torch"),
    (rules.misplaced, "maskstore.masks.bits", "from importlib import import_module\nimport_module('torch')"),
    (rules.misplaced, "maskstore.masks.bits", "from importlib import import_module as get\nget('torch')"),
    (rules.misplaced, "maskstore.masks.bits", "from importlib import import_module\nimport_module(name)"),
    (rules.misplaced, "maskstore.bank.rows", "def f():\n    from torch import nn"),
    (rules.misplaced, "maskstore.interop.readers.torch_files", "import torch"),
    (rules.misplaced, "supsup_models.runs.load", "from llvmlite import ir"),
    (rules.shadowed, "maskstore.bank", "from maskstore.bank.rows import rows"),
    (rules.shadowed, "maskstore.bank", "def rows():\n    pass"),
    (rules.hollow, "maskstore.bank", "__all__ += ['nothing']"),
    (rules.hollow, "supsup_models.data", "from .streams import nothing as nothing"),
    (rules.hollow, "maskstore.masks.bits", "from maskstore.errors import Nothing"),
    (rules.hollow, "maskstore.masks.bits", "from maskstore.nowhere import x"),
    (rules.crowded, "maskstore.masks.attic.old", ""),
]


@pytest.mark.parametrize(("rule", "module", "source"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_violation_is_found(house, rule, module, source):
    found = rule(house.with_module(module, source))
    assert any(module.removesuffix(".old") in line for line in found)


def test_a_crowded_folder_is_found(house):
    for number in range(rules.MOST_MODULES):
        house = house.with_module(f"maskstore.codecs.codec{number}", "")
    assert any("maskstore.codecs:" in line for line in rules.crowded(house))


def test_a_floor_without_a_room_is_found(house, monkeypatch):
    monkeypatch.setitem(rules.FLOORS, "maskstore", [*rules.FLOORS["maskstore"], {"attic"}])
    assert "maskstore: there is no room 'attic'" in rules.upward(house)


def test_a_stub_gives_names_as_they_are():
    """lazy_loader does not read what comes after `as`."""
    for stub in (path for package in PACKAGES for path in (ROOT / package).rglob("*.pyi")):
        renamed = re.findall(r"import (\w+) as (?!\1$)\w+", stub.read_text(), re.MULTILINE)
        assert not renamed, stub


def test_every_folder_says_what_it_is():
    for package in PACKAGES:
        for face in (ROOT / package).rglob("__init__.py"):
            assert face.read_text().startswith('"""'), face
