"""The `maskstore` command: look into banks, check them, take masks out, put masks in, make them smaller."""

import json
import sys
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from maskstore.bank import MaskBank, account
from maskstore.bank import compact as compact_bank
from maskstore.cli import console, exchange
from maskstore.cli.backbone import BackboneFile, backbone_for
from maskstore.cli.compile_notice import announcing
from maskstore.cli.console import AsCsv, AsJson, Immutable, Limit, examples
from maskstore.codecs import LEVELS, codec_names
from maskstore.errors import CodecError, MaskStoreError, UnknownPriorError
from maskstore.files import check_name, distinct_names, read_npz, write_npz
from maskstore.index import write_index
from maskstore.interop import filling, read_backbone
from maskstore.masks import Mask
from maskstore.priors import prior_from_config

WORDS = {
    "shapes": "--shapes",
    "conv_type": "--conv-type",
    "separator": "--separator",
    "layout": "--format",
    "layers": "--layers",
    "density": "--density",
    "nonzero": "--nonzero",
    "ternarise": "--ternarise",
    "limit": "--limit",
    "backbone": "--backbone",
}
"""What errors call by its Python name, as the command line has it."""

_OFFERED = 100  # names of tasks that Tab offers at once

app = typer.Typer(
    help="Mask banks: look into them, check them, bring masks in and out. Errors are one line; --debug has tracebacks.",
    epilog=examples(
        "maskstore put tasks.bank task-0 mask.npz --create",
        "maskstore ls tasks.bank",
        "maskstore get tasks.bank task-0 -o mask.npz",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

BankPath = Annotated[
    Path, typer.Argument(metavar="BANK", help="A bank file.", show_default=False, callback=console.no_stream)
]


def _known_tasks(context: typer.Context, incomplete: str) -> list[str]:
    """For the shell's Tab key: the first names of the bank that stands before them, and begin so."""
    try:
        with MaskBank.open(context.params.get("bank") or "") as opened:
            fitting = (name for name in opened if name.startswith(incomplete) and name.isprintable())
            return list(islice(fitting, _OFFERED))
    except (MaskStoreError, OSError, TypeError):
        return []


TaskName = Annotated[
    str,
    typer.Argument(metavar="TASK", help="The mask's task name.", show_default=False, autocompletion=_known_tasks),
]


def main() -> None:
    """Entry point of the `maskstore` command."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run `maskstore` with these arguments; returns its exit code."""
    return console.run("maskstore", app, (MaskStoreError,), arguments, words=WORDS)


exchange.register(app)


@app.callback()
def _program(version: Annotated[bool, console.version_option("maskstore")] = False) -> None:
    pass


@app.command(epilog=examples("maskstore demo", "maskstore demo --out tour.bank"))
@announcing
def demo(
    out: Annotated[
        Path, typer.Option(help="The bank to write; one of an earlier demo is used again.", callback=console.no_stream)
    ] = Path("demo.bank"),
    as_json: AsJson = False,
) -> None:
    """The tour, without torch: a pruned layer as masks in a bank, their sizes, and a picture."""
    from maskstore.cli import demo as tour

    result = tour.run_demo(out)
    if as_json:
        console.print_json(result.to_json())
    else:
        tour.print_demo(result)


@app.command(epilog=examples("maskstore stats tasks.bank", "maskstore stats tasks.bank --json"))
@announcing
def stats(
    bank: BankPath,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    limit: Limit = None,
    immutable: Immutable = False,
    backbone: BackboneFile = None,
) -> None:
    """Where every byte of a bank is, and how near that is to the masks' static entropy; --csv has the layers."""
    console.only_one(as_json, as_csv)
    with _reading(bank, limit, immutable, backbone) as opened:
        found = account(opened)
    if as_json:
        values = asdict(found) | {
            "file_bytes": found.total_bytes,
            "bits_per_parameter": found.per_parameter(8 * found.total_bytes),
            "payload_bits_per_parameter": found.per_parameter(8 * found.payload_bytes),
            "entropy_bits_per_parameter": found.per_parameter(found.entropy_bits),
        }
        del values["entropy_bits"]
        for layer in values["layers"]:
            layer["density"] = layer.pop("ones") / (layer["parameters"] * found.tasks or 1)
        console.print_json(values)
        return
    from maskstore.cli import tables

    if as_csv:
        tables.print_csv(tables.LAYER_HEADINGS, tables.layer_rows(found))
    else:
        tables.print_account(bank, found)


@app.command(epilog=examples("maskstore verify tasks.bank", "maskstore verify tasks.bank --backbone net.safetensors"))
@announcing
def verify(
    bank: BankPath,
    as_json: AsJson = False,
    limit: Limit = None,
    immutable: Immutable = False,
    backbone: BackboneFile = None,
) -> None:
    """Check every page, checksum and bit; exit code 1 at the first byte that is not as it was written."""
    with _reading(bank, limit, immutable, backbone) as opened:
        count = opened.verify()
    if as_json:
        console.print_json({"ok": True, "tasks": count})
    else:
        console.note(f"{bank}: {count} masks, all as they were written")


@app.command(epilog=examples("maskstore ls tasks.bank", "maskstore ls tasks.bank --csv > tasks.csv"))
def ls(bank: BankPath, as_json: AsJson = False, as_csv: AsCsv = False, immutable: Immutable = False) -> None:
    """The masks of a bank, with their codec, prior, size and metadata; into a pipe, one line a mask."""
    console.only_one(as_json, as_csv)
    with MaskBank.open(bank, immutable=immutable) as opened:
        infos, spec, meta = opened.infos(), opened.spec, opened.meta
    if as_json:
        rows = [{**info._asdict(), "bits_per_parameter": 8 * info.coded_bytes / (spec.bits or 1)} for info in infos]
        console.print_json({"meta": meta, "shapes": {name: list(s) for name, s in spec.shapes.items()}, "masks": rows})
        return
    from maskstore.cli import tables

    if as_csv:
        tables.print_csv(tables.MASK_HEADINGS, tables.mask_rows(spec, infos))
    else:
        tables.print_masks(bank, spec, infos)


@app.command(
    epilog=examples(
        "maskstore get tasks.bank task-3 -o mask.npz", "maskstore get tasks.bank task-3 --layer fc1 -o m.npz"
    )
)
@announcing
def get(
    bank: BankPath,
    task: TaskName,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The .npz file to write: one bool array a layer.", callback=console.no_stream),
    ],
    layer: Annotated[str | None, typer.Option(help="Only this layer.", show_default=False)] = None,
    signed: Annotated[bool, typer.Option("--signed", help="A signed mask: int8 arrays of -1, 0 and 1.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    limit: Limit = None,
    immutable: Immutable = False,
    backbone: BackboneFile = None,
) -> None:
    """Write a mask to an .npz file of bool arrays."""
    if out.exists() and out.resolve() == bank.resolve():
        raise console.UsageError(f"--out: expected another file than the bank, found {out}")
    with _reading(bank, limit, immutable, backbone) as opened:
        arrays: dict[str, Any]
        if signed:
            values = opened.signed(task)
            arrays = values.dense() if layer is None else {layer: values[layer]}
        else:
            arrays = opened.dense(task) if layer is None else {layer: opened.layer(task, layer)}
    write_npz(out, arrays, overwrite=overwrite)
    console.note(f"{out}: {len(arrays)} layers of {task!r}")


@app.command(
    epilog=examples(
        "maskstore put tasks.bank task-4 mask.npz --create",
        """maskstore put tasks.bank task-4 mask.npz --meta '{"accuracy": 0.95}' --overwrite""",
        """maskstore put tasks.bank task-4 mask.npz --prior '{"id": "seeded-scores", "seed": 0, "task": 4}'""",
    )
)
@announcing
def put(
    bank: BankPath,
    task: TaskName,
    source: Annotated[Path, typer.Argument(metavar="FILE.npz", help="One array of 0/1 a layer.", show_default=False)],
    meta: Annotated[str, typer.Option(help="JSON object to store beside the mask.")] = "{}",
    codec: Annotated[
        str, typer.Option(help=f"One of {', '.join(codec_names())}; max is the slowest and smallest.")
    ] = "auto",
    prior: Annotated[str, typer.Option(help="JSON object: what is known about the mask.")] = '{"id": "uniform"}',
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a mask of this name.")] = False,
    create: Annotated[bool, typer.Option("--create", help="Create the bank if there is none.")] = False,
    backbone: BackboneFile = None,
    limit: Limit = None,
) -> None:
    """Store a mask from an .npz file."""
    console.choice("--codec", codec, codec_names())
    try:
        known = prior_from_config(_json_object("--prior", prior))
    except (CodecError, UnknownPriorError) as error:
        raise console.UsageError(f"--prior: {error}") from None
    described = _json_object("--meta", meta)
    check_name("task name", task)
    mask = Mask.from_dense(read_npz(source, limit=limit))
    exists = bank.exists()
    if not exists and not create:
        raise console.UsageError(f"{bank}: expected an existing bank, found none (use --create to make one)")
    weights = (
        None if backbone is None else backbone_for(bank, backbone) if exists else read_backbone(backbone, mask.spec)
    )
    with (
        MaskBank.open(bank, "a", limit=limit, backbone=weights) if exists else filling(bank, mask.spec, {}, weights)
    ) as opened:
        if set(mask.spec.shapes) == set(opened.spec.shapes):
            mask = Mask.from_dense(mask.dense(), opened.spec)  # an .npz may hold the layers in another order
        opened.put(task, mask, meta=described, codec=codec, prior=known, overwrite=overwrite)
        size = opened.info(task).coded_bytes
    console.note(f"{bank}: {task!r} stored in {size} bytes, {8 * size / (mask.spec.bits or 1):.3f} bits a parameter")


@app.command(epilog=examples("maskstore rm tasks.bank task-4"))
def rm(bank: BankPath, tasks: Annotated[list[str], typer.Argument(metavar="TASK...", show_default=False)]) -> None:
    """Remove masks: all of those named, or, if one is missing, none."""
    if twice := next((task for task in tasks if tasks.count(task) > 1), None):
        raise console.UsageError(f"TASK: expected each task once, found {twice!r:.80} twice")
    with MaskBank.open(bank, "a") as opened, opened.transaction():
        for task in tasks:
            opened.delete(task)
    console.note(f"{bank}: {len(tasks)} removed; their pages are used again by the next masks")


@app.command(epilog=examples("maskstore compact tasks.bank", "maskstore compact tasks.bank --level fast --json"))
@announcing
def compact(
    bank: BankPath,
    level: Annotated[str, typer.Option(help="max tries every codec and takes minutes; fast is the default of put.")] = (
        "max"
    ),
    as_json: AsJson = False,
    limit: Limit = None,
    backbone: BackboneFile = None,
) -> None:
    """Code every mask anew in as few bytes as possible, check each bit, and only then change the bank."""
    console.choice("--level", level, LEVELS)
    told = time.monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > 2:
            told = time.monotonic()
            console.note(f"{bank}: {100 * done // of} % coded and checked")

    found = compact_bank(bank, level=level, limit=limit, on_mask=progress, backbone=backbone_for(bank, backbone))
    if as_json:
        console.print_json(asdict(found))
    else:
        smaller = f"{found.recoded} of {found.tasks} masks smaller"
        console.note(f"{bank}: {smaller}, {found.bytes_before} -> {found.bytes_after} bytes")


@app.command(epilog=examples("maskstore index tasks.bank", "maskstore index tasks.bank -o /fast/tasks.index"))
@announcing
def index(
    bank: BankPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write; BANK.index if not given.", callback=console.no_stream),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    limit: Limit = None,
    immutable: Immutable = False,
    backbone: BackboneFile = None,
) -> None:
    """Write all masks, decoded, as a file that inference maps: also banks larger than memory are asked then."""
    with _reading(bank, limit, immutable, backbone) as opened:
        written, count = write_index(opened, out, overwrite=overwrite), len(opened)
    console.note(f"{written}: {count} masks in {written.stat().st_size} bytes")


def _reading(bank: Path, limit: int | None, immutable: bool, backbone: Path | None) -> MaskBank:
    """The bank, open for a command that decodes masks."""
    known = backbone_for(bank, backbone, immutable=immutable)
    return MaskBank.open(bank, limit=limit, immutable=immutable, backbone=known)


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=distinct_names)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise console.UsageError(f"{option}: expected a JSON object, each key once, found {text[:60]!r}")
    return value
