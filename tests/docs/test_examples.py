"""Whatever a user can call shows its use in an example, and the examples of all docstrings run.

What can be called: every function of the three packages' `__all__`, and every class but abstract ones and protocols,
which have no instances, and errors and warnings, of which `errors` says when they are raised. A module in `__all__`,
such as `hopfield.patterns`, stands for what it lists, or for what it defines if it lists nothing.
"""

import doctest
import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("maskstore", "hopfield", "supsup_models")
AT_LEAST = 60
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that a module or package offers, by full name."""
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    for name in getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]:
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            yield from public(value)
        elif inspect.isclass(value) or inspect.isroutine(value):
            yield f"{module.__name__}.{name}", value


def can_be_called(value: object) -> bool:
    if not inspect.isclass(value):
        return True
    return not (inspect.isabstract(value) or is_protocol(value) or issubclass(value, BaseException))


def is_protocol(value: type) -> bool:
    return Protocol in value.__bases__


def without_example(objects: Mapping[str, object]) -> list[str]:
    return sorted(name for name, value in objects.items() if can_be_called(value) and ">>> " not in f"{value.__doc__}")


def complaints(tests: list[doctest.DocTest]) -> str:
    """What doctest says of examples whose output is not what they show; nothing if all is well."""
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    for test in tests:
        runner.run(test, out=said.append)
    return "".join(said)


def examples_of(module: ModuleType) -> list[doctest.DocTest]:
    """The examples of a module, each with no other names than those that it imports itself."""
    found = doctest.DocTestFinder(exclude_empty=True).find(module, globs={"__name__": "__main__"})
    return [test for test in found if test.examples]


def test_whatever_can_be_called_has_an_example() -> None:
    objects = {name: value for package in PACKAGES for name, value in public(import_module(package))}
    missing = without_example(objects)
    assert not missing, f"{len(missing)} public objects have no example: {', '.join(missing)}"
    assert sum(map(can_be_called, objects.values())) >= AT_LEAST


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, which they leave empty, and without data on this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKSTORE_DATA", raising=False)
    tests = examples_of(import_module(name))
    assert tests, f"{name}: expected examples in docstrings, found them elsewhere"
    assert complaints(tests) == ""
    assert not list(tmp_path.iterdir())


def _with_example() -> int:
    """
    >>> 1 + 1
    2
    """
    return 2


def _without() -> None:
    """No example."""


def test_a_public_object_without_example_is_found() -> None:
    planted = ModuleType("planted")
    inner = ModuleType("planted.inner")
    inner.plain, inner.hidden = _without, 1
    planted.shown, planted.plain, planted.inner = _with_example, _without, inner
    planted.Failure, planted.__all__ = type("Failure", (Exception,), {}), ["Failure", "inner", "plain", "shown"]
    inner.__all__ = ["hidden", "plain"]
    assert without_example(dict(public(planted))) == ["planted.inner.plain", "planted.plain"]
    del inner.__all__  # then it offers what it defines itself, which are none of these
    assert without_example(dict(public(planted))) == ["planted.plain"]


WRONG = [(">>> 1 + 1\n3\n", "Expected:\n    3\nGot:\n    2"), (">>> AT_LEAST\n60\n", "NameError")]


@pytest.mark.parametrize(("example", "said"), WRONG)
def test_an_example_that_does_something_else_or_lacks_an_import_is_found(example: str, said: str) -> None:
    planted = ModuleType("planted", example)
    planted.AT_LEAST = AT_LEAST  # a user who copies the example does not have it
    assert said in complaints(examples_of(planted))
