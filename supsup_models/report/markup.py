"""HTML and SVG as values: everything that is not markup already is escaped where it enters, and nowhere else.

Names of tasks, layers and methods come from files that anybody may have written, so no string gets onto a page but
through here.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""What HTML does not allow, what UTF-8 cannot say, and what turns the direction of text around it."""


@dataclass(frozen=True)
class Markup:
    """A piece of a page, escaped where it needs to be."""

    text: str


Content: TypeAlias = "Markup | str | int | float | Iterable[Content] | None"
"""What an element may hold: markup as it is, text and numbers to be escaped, nothing, or several of these."""


def element(tag: str, /, *content: Content, **attributes: str | float | None) -> Markup:
    """`<tag attributes>content</tag>`, or without an end where HTML has none.

    In attribute names a trailing underscore is dropped and others are hyphens (`class_`, `text_anchor`); an attribute
    that is None is left out, and one that is "" stands without a value.
    """
    given = "".join(
        f" {_attribute_name(key)}" + (f'="{_escaped(str(value))}"' if value != "" else "")
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}>{_BREAKS.get(tag, '')}")
    return Markup(f"<{tag}{given}>{_rendered(content)}</{tag}>{_BREAKS.get(tag, '')}")


def printable(text: str) -> str:
    """A text with what no page can show replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


_VOID = {"meta", "br"}
# a page is read by people now and then: elements that stand for themselves end their line
_BREAKS = dict.fromkeys(
    ("meta", "title", "style", "head", "section", "figure", "h1", "h2", "p", "tr", "li", "svg", "ul", "g", "header"),
    "\n",
)


def _rendered(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, Markup):
        return content.text
    if isinstance(content, str | int | float):
        return _escaped(str(content))
    return "".join(_rendered(piece) for piece in content)


def _escaped(text: str) -> str:
    return html.escape(printable(text), quote=True)


def _attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
