"""A section of the page: a heading, a sentence or two, figures, and the figures again as tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from supsup_models.report.markup import Content, Markup, element


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


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[Content]], *, folded: bool = True) -> Markup:
    """A table, folded away unless said otherwise. The first column holds names, the others figures."""
    head = element("tr", [element("th", heading, scope="col") for heading in headings])
    body = [
        element("tr", element("th", element("bdi", first), scope="row"), [element("td", cell) for cell in others])
        for first, *others in rows
    ]
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", body))
    # a table wider than the page scrolls by itself, for which a keyboard needs to reach it
    scrolled = element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return element("details", element("summary", caption), scrolled) if folded else scrolled
