"""A section of the page: a heading, a sentence or two, figures, and the figures again as tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from supsup_models.report.markup import Content, Markup, element

_END = 14  # characters of a name that are never left out


@dataclass(frozen=True)
class Section:
    """What stands under one heading; `missing` says why there is no figure, where there is none."""

    name: str
    heading: str
    body: tuple[Content, ...]
    missing: str | None = None

    def render(self) -> Markup:
        """The section as it stands on the page."""
        labelled = f"{self.name}-heading"
        body = (None if self.missing is None else element("p", self.missing, class_="missing"), *self.body)
        return element("section", element("h2", self.heading, id=labelled), *body, aria_labelledby=labelled)


def figure(*content: Content) -> Markup:
    """A drawing with its legend and its table."""
    return element("figure", *content)


def paragraph(*content: Content) -> Markup:
    """A sentence or two."""
    return element("p", *content)


def code(text: str) -> Markup:
    """Something that is typed."""
    return element("code", text)


def name(text: str) -> Markup:
    """A name from a file, kept apart from the direction of the text around it."""
    return element("bdi", text)


def whole_name(text: str) -> Markup:
    """A name as long as there is room for; what it leaves out on a narrow page is in its middle, for ends differ."""
    start, end = (text[:-_END], text[-_END:]) if len(text) > 2 * _END else (text, "")
    parts = element("span", start, class_="start"), element("span", end, class_="rest") if end else None
    return element("bdi", *parts, class_="name", title=text)


def table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[Content]],
    *,
    folded: bool = True,
    texts: Sequence[int] = (),
) -> Markup:
    """A table, folded away unless said otherwise. The first column and those in `texts` hold words, others figures."""
    looks = ["words" if column in texts else None for column in range(1, len(headings))]
    head = element(
        "tr",
        [element("th", text, scope="col", class_=look) for text, look in zip(headings, [None, *looks], strict=True)],
    )
    body = [
        element(
            "tr",
            element("th", element("bdi", first), scope="row"),
            [element("td", cell, class_=look) for cell, look in zip(others, looks, strict=True)],
        )
        for first, *others in rows
    ]
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", body))
    # a table wider than the page scrolls by itself, for which a keyboard needs to reach it
    scrolled = element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return element("details", element("summary", caption), scrolled) if folded else scrolled
