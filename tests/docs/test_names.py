"""Names, paths, links, commands and options in the pages are those of the code."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "maskstore/kernels/README.md")
PAGES = [*(ROOT / name for name in OUTSIDE), *sorted((ROOT / "docs").glob("*.md"))]
"""Not the changelog, which has names that are gone."""
TREES = ("maskstore", "hopfield", "supsup_models", "benchmarks", "tests", "docs")
PUBLIC = ("maskstore", "hopfield", "supsup_models")
ADAPTERS = ("maskstore.interop.numcodecs", "maskstore.interop.zarr", "maskstore.torch.lightning")
"""Modules that import another library whole, so that no face lists them."""
OTHER_OPTIONS = {
    "--debug",
    "--full",
    "--again",
    "--no-deps",
    "--write",
    "--index-url",
    "--help",
    "--bank",
    "--cases",
    "--kills",
    "--seconds",
    "--minutes",
    "--out",
    "--page",
    "--strict",
}
"""Of pytest in benchmarks/, of `python -m` scripts, of pip, and of every command of ours."""

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page: Path) -> Iterator[str]:
    """What a page shows as code: each span in backticks, and each line of its blocks without a language."""
    text = page.read_text()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if not language:
            yield from block.replace("\\\n", " ").splitlines()
    for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield " ".join(span.split())


def resolve(name: str) -> object:
    """The module, class, function or attribute of a dotted name; AttributeError if there is none."""
    module, _, rest = name.partition(".")
    found: object = importlib.import_module(module)
    for part in filter(None, rest.split(".")):
        module = f"{module}.{part}"
        if not hasattr(found, part) and part not in getattr(found, "__dataclass_fields__", ()):
            if importlib.util.find_spec(module) is None:
                raise AttributeError(name)
            found = importlib.import_module(module)
        else:
            found = getattr(found, part, None)
    return found


@by_page
def test_dotted_names_exist(page):
    for span in code(page):
        for name in re.findall(rf"(?<![\w./-])(?:{'|'.join(TREES[:5])})(?:\.[A-Za-z_]\w*)+(?![\w/])", span):
            resolve(name)


@by_page
def test_examples_import_what_is_public(page):
    """The names that a folder lists, and the modules for other libraries."""
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            module = getattr(node, "module", None) or ""
            if module.split(".")[0] in PUBLIC and module not in ADAPTERS:
                listed = getattr(importlib.import_module(module), "__all__", ())
                assert {alias.name for alias in node.names} <= set(listed), ast.unparse(node)


def test_new_names_in_the_changelog_exist(tmp_path):
    """The last column of its tables; the first one has names that are gone."""
    rows = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("|")]
    page = tmp_path / "new.md"
    page.write_text("\n".join(row.split(" | ")[-1] for row in rows))
    assert len(list(code(page))) > 30
    test_dotted_names_exist(page)


@by_page
def test_attributes_of_public_objects_exist(page):
    owners = {name: package for package in reversed(PUBLIC) for name in importlib.import_module(package).__all__}
    for span in code(page):
        for owner, attribute in re.findall(r"(?<![\w.])([A-Z]\w+)\.([a-z]\w*)", span):
            if owner in owners:
                resolve(f"{owners[owner]}.{owner}.{attribute}")


@by_page
def test_paths_exist(page):
    for span in code(page):
        for path in re.findall(rf"(?<![\w./-])(?:{'|'.join(TREES)})/[\w./*-]*", span):
            assert list(ROOT.glob(path.rstrip("."))), path


@by_page
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, anchor


def test_every_page_is_in_the_navigation():
    """`make docs` would refuse the page, some minutes later."""
    named = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= named


def _options() -> dict[str, dict[str, set[str]]]:
    """By command line, by command: the options that its help shows."""
    found = {}
    for name, module in {"maskstore": "maskstore.cli.app", "supsup": "supsup_models.cli.app"}.items():
        group = get_command(importlib.import_module(module).app)
        found[name] = {
            command: {
                option
                for item in made.params
                if not getattr(item, "hidden", False)
                for option in (*item.opts, *item.secondary_opts)
            }
            for command, made in {**group.commands, "": group}.items()  # "": what stands before any command
        }
    return found


OPTIONS = _options()
KNOWN = {option for commands in OPTIONS.values() for options in commands.values() for option in options}


@by_page
def test_commands_and_their_options_exist(page):
    for span in code(page):
        if not re.match(r"(supsup|maskstore) [a-z-]", span):
            continue
        program, command, *words = shlex.split(span.replace("[", "").replace("]", ""), comments=True)
        assert command.startswith("-") or command in OPTIONS[program], span
        for word in words:
            if word.startswith("--"):
                assert word in OPTIONS[program][command] | {"--help"}, span


@by_page
def test_options_exist(page):
    for span in code(page):
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", span):
            assert option in KNOWN | OTHER_OPTIONS, span


@pytest.mark.parametrize(
    ("test", "text"),
    [
        (test_dotted_names_exist, "`maskstore.bank.NoBank`"),
        (test_dotted_names_exist, "`maskstore.attic`"),
        (test_examples_import_what_is_public, "```python\nfrom maskstore.bank.bank import MaskBank\n```"),
        (test_examples_import_what_is_public, "```python\nfrom maskstore import Attic\n```"),
        (test_attributes_of_public_objects_exist, "`MaskBank.paint`"),
        (test_paths_exist, "`tests/attic/test_it.py`"),
        (test_links_lead_somewhere, "[there](nowhere.md)"),
        (test_links_lead_somewhere, "[there](#nowhere)"),
        (test_commands_and_their_options_exist, "`supsup paint`"),
        (test_commands_and_their_options_exist, "`maskstore ls BANK --paint`"),
        (test_options_exist, "`--paint`"),
    ],
)
def test_a_planted_mistake_is_found(test, text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{text}\n")
    with pytest.raises((AssertionError, AttributeError, ImportError)):
        test(page)
