"""The command line's tables, for people; `--json` has the same figures for programs."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from maskstore.bank import Account, MaskInfo
from maskstore.cli.console import cell
from maskstore.masks import MaskSpec


def print_account(path: Path, found: Account) -> None:
    """The account of a bank: parts of the file, then layers."""
    parts = Table(title=f"{cell(str(path))}: {found.tasks} masks of {found.parameters:,} parameters", min_width=60)
    for heading in ("part", "bytes", "share", "bits / parameter"):
        parts.add_column(heading, justify="left" if heading == "part" else "right")
    rows = [
        ("payload", found.payload_bytes),
        ("side information", found.side_bytes),
        ("index", found.index_bytes),
        ("slack", found.slack_bytes),
    ]
    if found.log_bytes:
        rows.append(("write-ahead log", found.log_bytes))
    for name, size in rows:
        parts.add_row(name, f"{size:,}", _share(size, found.total_bytes), _rate(found.per_parameter(8 * size)))
    parts.add_section()
    parts.add_row("file", f"{found.total_bytes:,}", "", _rate(found.per_parameter(8 * found.total_bytes)))
    parts.add_row("entropy given the priors", "", "", _rate(found.per_parameter(found.entropy_bits)))
    layers = Table(title="layers")
    for heading in ("layer", "parameters", "density", "payload", "side", "bits / parameter", "entropy"):
        layers.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in found.layers:
        bits = layer.parameters * found.tasks
        layers.add_row(
            cell(layer.name),
            f"{layer.parameters:,}",
            _rate(layer.ones / bits if bits else None),
            f"{layer.payload_bytes:,}",
            f"{layer.side_bytes:,}",
            _rate(8 * (layer.payload_bytes + layer.side_bytes) / bits if bits else None),
            _rate(layer.entropy_bits / bits if bits else None),
        )
    console = Console()
    console.print(parts, layers)
    console.print("codecs: " + (", ".join(f"{name} {count}" for name, count in found.codecs.items()) or "none"))


def print_masks(path: Path, spec: MaskSpec, infos: list[MaskInfo]) -> None:
    """One row a mask."""
    table = Table(title=f"{cell(str(path))}: {len(infos)} masks of {spec.bits:,} parameters")
    for heading in ("task", "codec", "prior", "bytes", "bits / parameter", "metadata"):
        table.add_column(heading, justify="right" if heading in ("bytes", "bits / parameter") else "left")
    for info in infos:
        table.add_row(
            cell(info.name),
            cell(str(info.codec.get("id"))),
            _described(info.prior),
            f"{info.coded_bytes:,}",
            _rate(8 * info.coded_bytes / spec.bits if spec.bits else None),
            cell(", ".join(f"{key}={value}" for key, value in info.meta.items())),
        )
    Console().print(table)


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


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
