"""The examples of some pages run as they are printed, in this process; `test_readme.py` runs the others."""

import re
import warnings
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("clusters.md", "federated.md", "hopfield.md", "interop.md", "scale.md")
IN_ORDER = ("backbones.md", "merging.md")
"""Pages whose examples go on from one another."""
EXAMPLES = [
    pytest.param(page, example, id=f"{page}-{number}")
    for page in PAGES
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL))
]


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_an_example_runs(page: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        if "import lightning" in example:
            warnings.simplefilter("ignore")  # it warns of torch, and of loaders without workers
        exec(compile(example, page, "exec"), {})


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_examples(page: str) -> None:
    assert sum(each.values[0] == page for each in EXAMPLES) >= 2


@pytest.mark.parametrize("page", IN_ORDER)
def test_the_examples_of_a_page_run_in_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert len(examples) >= 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page}
    for example in examples:
        exec(compile(example, page, "exec"), names)
