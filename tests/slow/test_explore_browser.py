"""The explorer's page in a real browser: it answers clicks, fetches nothing, fits its window, and keeps names text."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from supsup_models.inference import Inference
from supsup_models.report.explore import Explored, explored, explorer_page
from supsup_models.runs import load_run
from tests.helpers import browser as headless
from tests.helpers.browser import Page
from tests.helpers.runs import HOSTILE, trained_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOO_WIDE = """
Array.from(document.querySelectorAll('body *'))
  .filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.scroll'))
  .map(each => each.outerHTML.slice(0, 100))
"""
OVERLAPS = """
Array.from(document.querySelectorAll('section')).flatMap(section => {
  const all = Array.from(section.querySelectorAll('h2, p, button, canvas, select, td, th, .track'))
  const boxes = all.map(each => [each, each.getBoundingClientRect()])
    .filter(([each, box]) => box.width && !each.closest('.thumbs, .rows'))
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1
  return boxes.flatMap(([one, box], index) => boxes.slice(index + 1)
    .filter(([other, at]) => !one.contains(other) && !other.contains(one) && meet(box, at))
    .map(([other]) => `${one.textContent} on ${other.textContent}`))
})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a headless browser."""
    program = headless.find()
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(headless.NAMES)} is on the PATH")
    with headless.browser(program, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Explored:
    """What the page of a small run holds."""
    run = load_run(trained_run(tmp_path_factory.mktemp("explore") / "run"))
    return explored(run, run.stream(), Inference(), 12)


@pytest.fixture(scope="module")
def written(shown: Explored, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    out = tmp_path_factory.mktemp("page") / "explore.html"
    out.write_text(explorer_page(shown), encoding="utf-8")
    return out


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_fetches_nothing(page: Page, written: Path, scheme: str, width: int) -> None:
    page.show(written, width=width, scheme=scheme)
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.requests == [written.resolve().as_uri()]
    assert page.complaints == []


def test_a_picked_image_and_a_picked_mask_are_shown(page: Page, written: Path, shown: Explored) -> None:
    page.show(written, width=1280)
    for index, image in enumerate(shown.images):
        page.evaluate(f"document.querySelectorAll('.thumbs button')[{index}].click()")
        best = int(image.scores.argmax())
        verdict = page.evaluate("document.getElementById('verdict').textContent")
        assert verdict.startswith(f"It is of {shown.names[image.task]}; the highest score has {shown.names[best]}")
        assert page.evaluate("Number(document.getElementById('mask-choice').value)") == best
        entropy = f"{image.entropies[image.tried.index(best)]:.3f}"
        assert entropy[:-1] in page.evaluate("document.getElementById('entropy').textContent")
    page.evaluate(
        "choice = document.getElementById('mask-choice'), choice.value = 2, choice.dispatchEvent(new Event('change'))"
    )
    assert f"{shown.bits[2]:.3f} coded bits" in page.evaluate("document.getElementById('mask').textContent")
    assert page.evaluate("document.querySelectorAll('#mask canvas').length") == len(shown.layers)
    counts = page.evaluate(
        "Array.from(document.querySelectorAll('td'), each => Number(each.textContent)).reduce((a, b) => a + b)"
    )
    assert counts == len(shown.images)


def test_names_are_text(page: Page, shown: Explored, tmp_path: Path) -> None:
    out = tmp_path / "hostile.html"
    names = (HOSTILE[0], "</script><img src=x onerror=alert(1)>", "<b>bold</b>")
    out.write_text(explorer_page(replace(shown, names=names, title=HOSTILE[1])), encoding="utf-8", errors="replace")
    page.show(out, width=1280)
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('img, b').length") == 0
    assert "<b>bold</b>" in page.evaluate("document.body.innerText")
