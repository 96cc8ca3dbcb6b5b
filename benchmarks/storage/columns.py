"""Rows as text: the same cells for the terminal and for docs/results.md."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with two digits, or nothing."""
    return "" if fraction is None else f"{100 * fraction:.2f}"


def grouped(number: int) -> str:
    """An integer with thousands apart."""
    return f"{number:,}".replace(",", " ")


def seconds(value: float | None) -> str:
    """Two significant digits, or nothing."""
    return "" if value is None else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def bits(value: float) -> str:
    """Three significant digits, and all before the point."""
    return f"{value:.3g}" if value < 100 else grouped(round(value))


def _megabytes(row: Row) -> str:
    return f"{row['bytes'] / 1e6:.2f}"


_SECONDS: list[Column] = [
    ("encode, s", lambda row: seconds(row["encode_seconds"])),
    ("decode, s", lambda row: seconds(row["decode_seconds"])),
]
_COMMAND: Column = ("command", lambda row: f"`{row['command']}`")
STREAM: list[Column] = [
    ("method", lambda row: row["title"]),
    ("task given, %", lambda row: percent(row["accuracy"])),
    ("inferred, %", lambda row: percent(row["inferred"])),
    ("task found, %", lambda row: percent(row["task_accuracy"])),
    ("bytes", lambda row: grouped(row["bytes"])),
    ("bits", lambda row: bits(row["bits_per_parameter"])),
    *_SECONDS,
    _COMMAND,
]
MEMORIES: list[Column] = [
    ("kept as", lambda row: row["title"]),
    ("masks of", lambda row: row["notes"]["masks"].removesuffix(" masks")),
    ("bits of a mask", lambda row: grouped(row["notes"]["mask_bits"])),
    ("accuracy of the masks, %", lambda row: percent(row["accuracy"])),
    ("bytes", lambda row: grouped(row["bytes"])),
    ("bits a mask bit", lambda row: bits(8 * row["bytes"] / row["tasks"] / row["notes"]["mask_bits"])),
    _COMMAND,
]
IMAGENET: list[Column] = [
    (
        "published",
        lambda row: f"{row['notes']['published_megabytes']} MB, {percent(row['notes']['published_accuracy'])} %",
    ),
    ("density, %", lambda row: percent(row["notes"]["density"])),
    ("stored as", lambda row: row["title"]),
    ("MB", _megabytes),
    ("of these statistics", lambda row: f"{row['parts']['statistics'] / 1e6:.2f}"),
    ("tasks coded", lambda row: str(row["notes"]["tasks_coded"])),
    *_SECONDS,
    _COMMAND,
]

SPARSE: list[Column] = [
    ("stored as", lambda row: row["title"]),
    ("bytes", lambda row: grouped(row["bytes"])),
    ("bits", lambda row: bits(row["bits_per_parameter"])),
    *_SECONDS,
    _COMMAND,
]
PRUNED: list[Column] = [
    ("kept", lambda row: row["notes"]["pattern"]),
    ("stored as", lambda row: row["title"]),
    ("MB", _megabytes),
    ("bits", lambda row: f"{row['bits_per_parameter']:.4f}"),
    *_SECONDS,
    _COMMAND,
]


def columns(suite: str) -> list[Column]:
    """The columns of a suite's table."""
    others = {"memories": MEMORIES, "resnet-50": IMAGENET, "sparse-bank": SPARSE, "pruned-1b": PRUNED}
    return others.get(suite, STREAM)


def table(suite: str, rows: Mapping[str, Row]) -> Table:
    """For the terminal, without the commands."""
    shown = columns(suite)[:-1]
    result = Table(*(head for head, _ in shown), title=suite)
    for row in rows.values():
        result.add_row(*(cell(row) for _, cell in shown))
    return result


def markdown(suite: str, rows: Mapping[str, Row]) -> str:
    """For a page."""
    shown = columns(suite)
    lines = [[head for head, _ in shown], ["---"] * len(shown)]
    lines += [[cell(row) for _, cell in shown] for row in rows.values()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
