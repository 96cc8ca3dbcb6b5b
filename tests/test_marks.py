"""Tests that start a program are marked slow, so that `make quick` is quick."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent
STARTERS = {"in_fresh_process", "output_of", "subprocess"}


def unmarked(source: str) -> set[str]:
    """The tests of a module that start a program, themselves or through others of its functions, and are not marked."""
    tree = ast.parse(source)
    if "pytestmark = pytest.mark.slow" in source:
        return set()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    used = {
        function.name: {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(function)}
        for function in functions
    }
    starting = set(STARTERS)
    while more := {name for name, names in used.items() if names & starting} - starting:
        starting |= more
    marked = {each.name for each in functions if "pytest.mark.slow" in map(ast.unparse, each.decorator_list)}
    return {name for name in starting - marked if name.startswith("test_")}


def test_tests_that_start_programs_are_marked() -> None:
    files = [path for path in TESTS.rglob("test_*.py") if path.parent.name != "slow"]
    assert len(files) > 80
    assert {path.name: found for path in files if (found := unmarked(path.read_text()))} == {}


def test_a_planted_one_is_found() -> None:
    helper = "def helper():\n    return in_fresh_process('1')\n\n"
    assert unmarked(helper + "def test_it():\n    helper()\n") == {"test_it"}
    assert unmarked(helper + "@pytest.mark.slow\ndef test_it():\n    helper()\n") == set()
    assert unmarked("def test_it():\n    subprocess.Popen(['true'])\n") == {"test_it"}
