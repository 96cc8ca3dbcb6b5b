"""The explorer's page: one HTML text with its data, style and script inside. It fetches nothing, and says so."""

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

import maskstore
from supsup_models.report.explore.gather import Explored, Looked, Pictured
from supsup_models.report.markup import Markup, element, printable

GENERATOR = "supsup explore"


def explorer_page(found: Explored) -> str:
    """The page, HTML in UTF-8; the same arguments give the same text.

    What comes from files (names of tasks and layers) enters the page as JSON in which `<`, `>` and `&` are escaped, and
    the script shows it as text only. The page's own policy allows this one script and no address at all.
    """
    folder = files("supsup_models.report.explore")
    script = folder.joinpath("explore.js").read_text(encoding="utf-8")
    style = folder.joinpath("explore.css").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; base-uri 'none'; "
        "form-action 'none'"
    )
    data = json.dumps(_plain(found), separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="generator", content=f"{GENERATOR} {maskstore.__version__}"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("meta", name_="referrer", content="no-referrer"),
        element("title", found.title),
        Markup(f"<style>\n{style}</style>\n"),
    )
    body = element(
        "body",
        element("header", element("h1", found.title), element("p", _summary(found), id="summary")),
        element("main", id="main"),
        element("noscript", element("p", "This page draws its figures by a script of its own; none can run here.")),
        Markup(f'<script type="application/json" id="data">{data}</script>\n<script>\n{script}</script>\n'),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en').text}\n"


def _summary(found: Explored) -> str:
    tasks, images = len(found.names), len(found.images)
    known = found.found
    share = "" if known is None else f"; the task of {known:.1%} of the images shown was found, each image by itself"
    return (
        f"{tasks} masks, {np.mean(found.bits):.3f} coded bits a weight on average. {images} test images: scores by "
        f"{found.method} inference, objective {found.objective}{share}."
    )


def _plain(found: Explored) -> dict[str, Any]:
    """The data as JSON has them; every number that is no finite one is null."""
    return {
        "names": [printable(name) for name in found.names],
        "layers": [[printable(name), list(shape)] for name, shape in found.layers],
        "bits": [round(each, 5) for each in found.bits],
        "accuracies": found.accuracies,
        "images": [_image(image) for image in found.images],
        "pictures": [_picture(mask) for mask in found.pictures],
    }


def _image(image: Looked) -> dict[str, Any]:
    return {
        "task": image.task,
        "label": image.label,
        "pixels": _cells(image.pixels),
        "scores": _numbers(image.scores),
        "tried": list(image.tried),
        "entropies": _numbers(image.entropies),
        "probabilities": [_numbers(row) for row in image.probabilities],
    }


def _picture(mask: Pictured) -> list[dict[str, Any]]:
    return [
        {"cells": _cells(cells), "kept": round(kept, 5)} for cells, kept in zip(mask.layers, mask.kept, strict=True)
    ]


def _cells(cells: NDArray[np.uint8]) -> dict[str, Any]:
    """A picture: rows, columns, channels, and a byte for each value in base 64."""
    height, width, *depth = cells.shape
    return {
        "rows": height,
        "columns": width,
        "channels": depth[0] if depth else 1,
        "bytes": base64.b64encode(np.ascontiguousarray(cells).tobytes()).decode(),
    }


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.tolist()]
