"""The command line's tables. On a terminal they fit it; into a pipe each row is one line, and nothing is left out.

`--json` has the same figures for programs, `--csv` for spreadsheets.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from maskstore.bank import Account, MaskInfo
from maskstore.cli import console
from maskstore.cli.console import cell
from maskstore.errors import printable
from maskstore.interop import BankDiff, TaskDiff
from maskstore.masks import MaskSpec

_MOST_LAYERS = 8  # columns that still fit a terminal; a pipe takes all
_LEFT = ("part", "layer", "task", "codec", "prior", "metadata", "beside")


def print_csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Comma-separated values on standard output; names are printable, a missing value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([printable(each) if isinstance(each, str) else each for each in row] for row in rows)
    sys.stdout.write(text.getvalue())


def print_account(path: Path, found: Account) -> None:
    """The account of a bank: parts of the file, then layers."""
    title = f"{cell(str(path))}: {found.tasks} masks of {found.parameters:,} parameters"
    parts = _table(title, "part", "bytes", "share", "bits / parameter", min_width=60)
    signed = [("- signs", found.sign_bytes), ("- scales", found.scale_bytes)] if found.signed else []
    rows = [
        ("payload", found.payload_bytes),
        ("side information", found.side_bytes),
        *signed,
        ("index", found.index_bytes),
        ("slack", found.slack_bytes),
    ]
    if found.log_bytes:
        rows.append(("write-ahead log", found.log_bytes))
    for name, size in rows:
        share = f"{size / found.total_bytes:.1%}" if found.total_bytes else "-"
        parts.add_row(name, f"{size:,}", share, _rate(found.per_parameter(8 * size)))
    parts.add_section()
    parts.add_row("file", f"{found.total_bytes:,}", "", _rate(found.per_parameter(8 * found.total_bytes)))
    parts.add_row("entropy given the priors", "", "", _rate(found.per_parameter(found.entropy_bits)))
    layers = _table("layers", "layer", "parameters", "density", "payload", "side", "bits / parameter", "entropy")
    for name, parameters, density, payload, side, rate, entropy in layer_rows(found):
        sizes = f"{payload:,}", f"{side:,}"
        layers.add_row(cell(name), f"{parameters:,}", _rate(density), *sizes, _rate(rate), _rate(entropy))
    terminal = console.terminal()
    terminal.print(parts, layers)
    terminal.print("codecs: " + (", ".join(f"{name} {count}" for name, count in found.codecs.items()) or "none"))


LAYER_HEADINGS = ("layer", "parameters", "density", "payload_bytes", "side_bytes", "bits_per_parameter", "entropy")


def layer_rows(found: Account) -> list[tuple[str, int, float | None, int, int, float | None, float | None]]:
    """What `LAYER_HEADINGS` says of each layer, over all masks."""
    rows = []
    for layer in found.layers:
        bits = layer.parameters * found.tasks
        rates = [
            each / bits if bits else None
            for each in (layer.ones, 8 * (layer.payload_bytes + layer.side_bytes), layer.entropy_bits)
        ]
        sizes = layer.payload_bytes, layer.side_bytes
        rows.append((layer.name, layer.parameters, rates[0], *sizes, rates[1], rates[2]))
    return rows


def print_masks(path: Path, spec: MaskSpec, infos: list[MaskInfo]) -> None:
    """One row a mask."""
    title = f"{cell(str(path))}: {len(infos)} masks of {spec.bits:,} parameters"
    table = _table(title, "task", "codec", "prior", "bytes", "bits / parameter", "metadata")
    for info in infos:
        table.add_row(
            cell(info.name),
            cell(str(info.codec.get("id"))),
            _described(info.prior),
            f"{info.coded_bytes:,}",
            _rate(8 * info.coded_bytes / spec.bits if spec.bits else None),
            cell(", ".join(f"{key}={value}" for key, value in info.meta.items())),
        )
    console.terminal().print(table)


MASK_HEADINGS = ("task", "codec", "prior", "bytes", "bits_per_parameter", "metadata")


def mask_rows(spec: MaskSpec, infos: list[MaskInfo]) -> list[tuple[object, ...]]:
    """What `MASK_HEADINGS` says of each mask; objects as JSON."""
    return [
        (
            info.name,
            str(info.codec.get("id")),
            json.dumps(info.prior),
            info.coded_bytes,
            8 * info.coded_bytes / spec.bits if spec.bits else None,
            json.dumps(info.meta),
        )
        for info in infos
    ]


def print_diff(a: str, b: str, found: BankDiff) -> None:
    """One row a task that both have, with the bits that differ in each layer; then what only one has."""
    terminal = console.terminal()
    if found.tasks:
        terminal.print(_differences(f"bits that differ: {cell(a)} against {cell(b)}", found.tasks))
    for what, names in (
        (f"tasks only in {a}", found.only_in_a),
        (f"tasks only in {b}", found.only_in_b),
        (f"layers only in {a}", found.layers_only_in_a),
        (f"layers only in {b}", found.layers_only_in_b),
    ):
        if names:
            most = 20 if sys.stdout.isatty() else len(names)
            listed = ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
            terminal.print(f"{cell(what)}: {cell(listed)}")
    if found.beside and not found.meta_same:
        terminal.print("metadata of the banks themselves: different")
    terminal.print("the same" if found.same else "different")


def _differences(title: str, tasks: Sequence[TaskDiff]) -> Table:
    most = _MOST_LAYERS if sys.stdout.isatty() else len(tasks[0].layers)
    layers = [cell(layer.name) for layer in tasks[0].layers[:most]]
    table = _table(title, "task", *layers, "all layers", "share", "beside")
    for task in tasks:
        beside = [name for name, same in (("meta", task.meta_same), ("extras", task.extras_same)) if not same]
        table.add_row(
            cell(task.a if task.a == task.b else f"{task.a} / {task.b}"),
            *(f"{layer.distance:,}" for layer in task.layers[:most]),
            f"{task.distance:,}",
            f"{task.distance / task.bits:.3%}" if task.bits else "-",
            ", ".join(beside),
        )
    return table


def _table(title: str, *headings: str, min_width: int | None = None) -> Table:
    """A table without rows; columns of numbers are aligned at the right."""
    table: Table = console.table(title, min_width=min_width)
    for heading in headings:  # a long name goes on in the next line of its cell, and is never cut
        table.add_column(heading, justify="left" if heading in _LEFT else "right", overflow="fold")
    return table


def _described(prior: dict[str, Any]) -> str:
    """A prior in few words; what it knows beside other masks only where that is anything."""
    parts = [_fields(prior)]
    if isinstance(prior.get("tasks"), list):
        parts[0] += " of " + ", ".join(str(task) or "(a mask since removed)" for task in prior["tasks"])
    given = prior.get("given")
    if isinstance(given, dict) and given.get("id") != "uniform":
        parts.append(_fields(given))
    return cell(", ".join(parts))


def _fields(prior: dict[str, Any]) -> str:
    named = [f"{key}={value}" for key, value in prior.items() if key not in ("id", "given", "tasks")]
    return " ".join([str(prior.get("id")), *named])


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
