"""A figure to take away: its data as CSV, and itself as an SVG file that needs no page around it.

Both are in the page, behind links with `data:` addresses, so that nothing is fetched and nothing runs.
"""

import base64
import csv
import io
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from supsup_models.report.markup import Markup, element, printable

_WIDTH = 800
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 34, 24, 52  # around the plot, for what stands outside its axes
_SQUARE = 520  # pixels of a drawing that is as high as it is wide
_XHTML = "http://www.w3.org/1999/xhtml"


def downloads(drawn: Markup, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """The two links below a figure.

    Args:
        drawn: What `plot.drawing` gave.
        headings: Of the columns of the CSV file.
        rows: Its rows: numbers as they are, not as they are said on the page; None is an empty cell.
    """
    name = _found(r'<svg id="([\w-]+)"', drawn.text)
    title = re.sub("<[^>]*>", "", _found(r"<title[^>]*>(.*?)</title>", drawn.text))
    links = [
        element("a", said, download=f"{name}.{suffix}", href=_address(kind, text), aria_label=f"{said}: {name}")
        for said, suffix, kind, text in (
            ("data as CSV", "csv", "text/csv", _table(headings, rows)),
            ("figure as SVG", "svg", "image/svg+xml", standalone(drawn, title)),
        )
    ]
    return element("p", links[0], " · ", links[1], class_="take")


def standalone(drawn: Markup, title: str) -> str:
    """The SVG file of a drawing: 800 pixels wide, in light colours, with its own style."""
    inner = drawn.text[drawn.text.index("<svg ") : drawn.text.rindex("</svg>") + len("</svg>")]
    head, rest = inner.split(">", 1)
    found = re.search(r' height="(\d+)"', head)
    width, height = (_SQUARE, _SQUARE) if found is None else (_WIDTH - _LEFT - _RIGHT, int(found[1]))
    head = re.sub(r' (?:width|height|id|role|aria-labelledby)="[^"]*"', "", head)
    rest = rest.replace("<foreignObject", '<foreignObject overflow="visible"').replace(
        '<div class="row-label"', f'<div xmlns="{_XHTML}" class="row-label"'
    )
    whole = width + _LEFT + _RIGHT, height + _TOP + _BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole[0]}" height="{whole[1]}" '
        f'viewBox="0 0 {whole[0]} {whole[1]}"><title>{title}</title><style>{_style()}</style>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'{head} x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}" overflow="visible">{rest}</svg>\n'
    )


@cache
def _style() -> str:
    """The rules of the style sheet that drawings need, with the light colours in the place of their names."""
    sheet = files("supsup_models.report").joinpath("style.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", _found(r"(?s):root \{(.*?)\}", sheet)))
    rules = sheet[sheet.index("/* a halo keeps") : sheet.index("/* legends and tables */")]
    rules = re.sub(r"/\*.*?\*/", "", rules)
    rules = re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], rules)
    return f"svg {{ font-family: system-ui, sans-serif; color: {colours['ink']}; }} {' '.join(rules.split())}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return written.getvalue()


def _address(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, pattern
    return match[1]
