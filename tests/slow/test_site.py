"""The documentation site: it builds strictly, its reference has every public name, and it works from the disk."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

from tests.docs.test_examples import PACKAGES, ROOT, public
from tests.helpers import browser as headless
from tests.helpers.browser import Page

PAGES = (
    "index.html",
    "tutorials/two_hundred_tasks.html",
    "glossary.html",
    "results.html",
    "format-codecs.html",
    "reference/maskstore.html",
)
TOO_WIDE = """
Array.from(document.querySelectorAll('body *'))
  .filter(each => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
  .filter(each => !each.closest('pre, .md-typeset__scrollwrap, .md-nav, .md-search'))
  .map(each => each.outerHTML.slice(0, 100))
"""
ANSWERS = """
new Promise(async done => {
  const until = async test => {
    while (!test()) await new Promise(next => setTimeout(next, 50))
  }
  await until(() => document.querySelector('[data-md-component=search-query]'))
  const query = document.querySelector('[data-md-component=search-query]')
  query.focus()
  query.value = WORD
  query.dispatchEvent(new KeyboardEvent('keyup'))
  query.dispatchEvent(new Event('input'))
  await until(() => document.querySelector('.md-search-result__link'))
  done(Array.from(document.querySelectorAll('.md-search-result__link'), each => each.getAttribute('href')))
})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` writes it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    told = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a headless browser."""
    program = headless.find()
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(headless.NAMES)} is on the PATH")
    with headless.browser(program, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    shown = "".join(path.read_text() for path in sorted((site / "reference").glob("*.html")))
    names = [name for package in PACKAGES for name, _ in public(import_module(package))]
    assert len(names) > 100
    assert [name for name in names if f'id="{name}"' not in shown] == []


def test_every_tutorial_was_run_and_ends_with_a_picture(site: Path) -> None:
    sources = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
    assert len(sources) >= 5
    for source in sources:
        notebook = json.loads((site / "tutorials" / f"{source.stem}.ipynb").read_text())
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
        assert kinds.count("stream") >= 3, source.name
        assert kinds[-1] == "display_data", source.name
        page = (site / "tutorials" / f"{source.stem}.html").read_text()
        pictures = re.findall(rf'src="({source.stem}-\d\.png)"', page)
        assert len(pictures) == kinds.count("display_data"), source.name
        assert all((site / "tutorials" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
        assert (site / "tutorials" / source.name).read_text() == source.read_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_and_fetch_nothing(site: Path, page: Page, name: str, scheme: str, width: int) -> None:
    page.show(site / name, width=width, scheme=scheme)
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [address for address in page.requests if not address.startswith(("file:", "data:", "about:"))] == []
    assert page.complaints == []
    dark = page.evaluate("document.body.getAttribute('data-md-color-scheme')") == "slate"
    assert dark == (scheme == "dark")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("word", "found"), [("superposition", "glossary.html"), ("encode_mask", "reference/maskstore.html")]
)
def test_search_answers_without_a_server(site: Path, page: Page, word: str, found: str) -> None:
    page.show(site / "index.html", width=1280)
    links = page.evaluate(ANSWERS.replace("WORD", repr(word)))
    assert any(found in link for link in links), links
