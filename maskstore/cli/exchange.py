"""Commands that bring masks in and take them out: `import`, `export`, `merge`, `diff`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from maskstore import interop
from maskstore.cli import console
from maskstore.cli.backbone import BackboneFile, backbone_for
from maskstore.cli.compile_notice import announcing
from maskstore.cli.console import AsJson, Immutable, Limit, examples
from maskstore.codecs import codec_names
from maskstore.errors import ImportOptionError
from maskstore.masks import SCALES

NewBank = Annotated[
    Path,
    typer.Argument(metavar="BANK", help="Made if there is none.", show_default=False, callback=console.no_stream),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what has the same name.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(
        "import",
        epilog=examples(
            "maskstore import final.pt tasks.bank",
            "maskstore import pruned.pt tasks.bank --name task-0",
            "maskstore import TALL_mask_8task.npy tasks.bank --shapes shapes.json",
            "maskstore import delta.safetensors tasks.bank --ternarise layer --density 0.05",
        ),
    )(import_masks)
    app.command(
        epilog=examples(
            "maskstore export tasks.bank tasks.safetensors",
            "maskstore export tasks.bank tasks.shard",
            "maskstore export tasks.bank s3://bucket/tasks --shards 100",
            "maskstore export tasks.bank s3://bucket/tasks --shards 10 --append",
            "maskstore export tasks.bank delta.safetensors --deltas task-0",
        )
    )(export)
    app.command(
        epilog=examples(
            "maskstore merge run-1/masks.bank run-2/masks.bank all.bank --prefix '{source}/'",
            "maskstore merge new.bank all.bank --rename task-0=task-10",
            "maskstore merge shard-0.bank shard-1.bank all.bank --sort",
        )
    )(merge)
    app.command(
        epilog=examples("maskstore diff a.bank b.bank", "maskstore diff tasks.bank --tasks task-0 task-1 --json")
    )(diff)


@announcing
def import_masks(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A torch, .npz, .npy or safetensors file, or an index of several."),
    ],
    bank: NewBank,
    layout: Annotated[
        str,
        typer.Option("--format", help=f"The layout, where the file does not show it: {', '.join(interop.LAYOUTS)}."),
    ] = "auto",
    name: Annotated[
        str | None, typer.Option(help="The task's name; {} in it is the task's own, or the file's stem.")
    ] = None,
    shapes: Annotated[Path | None, typer.Option(help="JSON of layer shapes, for packed bytes.")] = None,
    bit_order: Annotated[str, typer.Option(help="Of packed bytes: big (numpy.packbits) or little.")] = "big",
    vector_order: Annotated[
        str, typer.Option(help="Layers of a TALL-masks vector: sorted by name, or as given in --shapes.")
    ] = "sorted",
    separator: Annotated[str | None, typer.Option(help="Splits array names into task and layer.")] = None,
    conv_type: Annotated[
        str | None, typer.Option(help="The mask rule of a SupSup state dict without arguments.")
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(help="The fraction that hidden-networks scores or --ternarise keep.", show_default=False),
    ] = None,
    nonzero: Annotated[
        bool, typer.Option("--nonzero", help="The arrays are weights; kept are those that are not zero.")
    ] = False,
    ternarise: Annotated[
        str | None,
        typer.Option(
            metavar="SCALE",
            help="The arrays are changes of weights, kept as signs and a scale for each layer or row, or none.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only layers such as '*.weight'; may be given many times."),
    ] = None,
    limit: Limit = None,
    codec: Annotated[
        str | None, typer.Option(help="A codec, or auto; exported banks keep theirs otherwise.", show_default=False)
    ] = None,
    backbone: BackboneFile = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Import masks that another program wrote, in one transaction. Nothing in the file is ever run."""
    console.choice("--format", layout, interop.LAYOUTS)
    console.choice("--bit-order", bit_order, ("big", "little"))
    console.choice("--vector-order", vector_order, ("sorted", "given"))
    if ternarise is not None:
        console.choice("--ternarise", ternarise, SCALES)
    if codec is not None:
        console.choice("--codec", codec, codec_names())
    try:
        options = interop.ReadOptions(
            layout=layout,
            shapes=interop.read_shapes(shapes) if shapes is not None else None,
            bit_order=cast("Any", bit_order),
            vector_order=cast("Any", vector_order),
            separator=separator,
            name=name,
            conv_type=conv_type,
            density=density,
            nonzero=nonzero,
            ternarise=ternarise,
            layers=layers or None,
            limit=limit,
        )
        masks = interop.read_masks(source, options)
    except ImportOptionError as error:
        raise console.UsageError(str(error)) from None
    known = None if backbone is None else interop.read_backbone(backbone, masks.spec)
    count = interop.store(masks, bank, codec=codec, overwrite=overwrite, backbone=known)
    if as_json:
        names = [task.name for task in masks.tasks]
        console.print_json({"format": masks.layout, "tasks": names, "parameters": masks.spec.bits})
    else:
        console.note(f"{bank}: {count} masks of {masks.spec.bits:,} parameters imported ({masks.layout})")


@announcing
def export(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A bank or shard.", show_default=False)],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help=".safetensors, .npz or .shard (also a URL); with --shards a folder, or a URL prefix.",
            show_default=False,
            callback=console.no_stream,
        ),
    ],
    layout: Annotated[
        str | None, typer.Option("--format", help="safetensors, npz or shard; told by OUT's ending otherwise.")
    ] = None,
    deltas: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Only this signed mask, as numbers for each weight.", show_default=False),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(metavar="N", help="Write N shards and a manifest: a shard set.", show_default=False, min=1),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add what a shard set lacks to it.")] = False,
    overwrite: Overwrite = False,
    limit: Limit = None,
    immutable: Immutable = False,
    backbone: BackboneFile = None,
) -> None:
    """Export all masks, with names, metadata, codecs and priors; `import` (shards: `merge`) brings back the same."""
    known = backbone_for(bank, backbone, immutable=immutable)
    if deltas is not None:
        other = layout is None and out.endswith((".npz", ".shard"))
        if layout not in (None, "safetensors") or other or interop.is_url(out):
            raise console.UsageError(f"--deltas: expected a safetensors file to write, found {layout or out}")
        with interop.open_source(bank, immutable=immutable, backbone=known) as source:
            interop.write_deltas(source, deltas, Path(out), overwrite=overwrite)
        console.note(f"{out}: {deltas!r} exported as numbers (safetensors)")
        return
    if append and (shards is None or overwrite):
        raise console.UsageError("--append: expected --shards N beside it, and no --overwrite, found others")
    if shards is not None:
        if layout not in (None, "shard"):
            raise console.UsageError(f"--shards: expected the format shard, found {layout}")
        with interop.open_source(bank, limit=limit, immutable=immutable, backbone=known) as source:
            done = interop.write_shards(source, out, shards=shards, append=append, overwrite=overwrite)
        console.note(f"{out}: {done.masks} masks in {done.shards} new shards (generation {done.generation})")
        return
    kinds = ("safetensors", "npz", "shard")
    kind = layout or out.rpartition(".")[2]
    if kind not in kinds and layout is None:
        raise console.UsageError(f"{out}: expected it to end in .{', .'.join(kinds)}, found another (or use --format)")
    console.choice("--format", kind, kinds)
    if interop.is_url(out) and kind != "shard":
        raise console.UsageError(f"{out}: expected a path for {kind}, found a URL, which only shards can go to")
    with interop.open_source(bank, limit=limit, immutable=immutable, backbone=known) as source:
        if kind == "shard":
            interop.write_shard(source, out, overwrite=overwrite)
        elif kind == "npz":
            interop.write_npz(source, Path(out), overwrite=overwrite)
        else:
            interop.write_safetensors(source, Path(out), overwrite=overwrite)
        console.note(f"{out}: {len(source)} masks exported ({kind})")


def merge(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Banks or shards of one spec.", show_default=False)
    ],
    bank: NewBank,
    overwrite: Overwrite = False,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Rename a task; may be given many times.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Before all other names; {source} is the file's stem.")] = "",
    sort: Annotated[
        bool, typer.Option("--sort", help="In the order of their names, task-2 before task-10; else as they come.")
    ] = False,
    immutable: Immutable = False,
    as_json: AsJson = False,
) -> None:
    """Copy the masks of banks and shards into one bank, as they are coded, all or nothing."""
    if any(Path(source).exists() and bank.exists() and bank.samefile(source) for source in sources):
        raise console.UsageError(f"{bank}: expected a bank that is not among the sources, found it there")
    names = {}
    for text in rename or []:
        old, found, new = text.partition("=")
        if not found or not old or not new:
            raise console.UsageError(f"--rename: expected OLD=NEW, found {text!r}")
        if old in names:
            raise console.UsageError(f"--rename: expected one new name for {old!r:.80}, found two")
        names[old] = new
    count, disputed = interop.merge(
        sources, bank, overwrite=overwrite, rename=names, prefix=prefix, sort=sort, immutable=immutable
    )
    if as_json:
        console.print_json({"merged": count, "sources": list(sources), "metadata_dropped": disputed})
        return
    dropped = f"; left out, as the sources disagree: {', '.join(disputed)}" if disputed else ""
    console.note(f"{bank}: {count} masks from {len(sources)} sources{dropped}")


@announcing
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A bank or shard.", show_default=False)],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="Another.", show_default=False)] = None,
    tasks: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="T U", help="Compare T of A with U of B (of A, if B is not given).", show_default=False),
    ] = None,
    as_json: AsJson = False,
    limit: Limit = None,
    immutable: Immutable = False,
    backbone: BackboneFile = None,
) -> None:
    """Compare two banks, or two masks: Hamming distance by layer. Exit code 0 if they are the same, 1 if not."""
    if b is None and tasks is None:
        raise console.UsageError("diff: expected two banks, or one and --tasks T U, found one bank")
    other, opening = (
        a if b is None else b,
        partial(
            interop.open_source,
            limit=limit,
            immutable=immutable,
            backbone=backbone_for(a, backbone, immutable=immutable),
        ),
    )
    with opening(a) as left, opening(other) as right:
        found = interop.diff_tasks(left, right, *tasks) if tasks is not None else interop.diff_banks(left, right)
    if as_json:
        console.print_json(_diff_json(found))
    else:
        from maskstore.cli.tables import print_diff

        print_diff(a, other, found)
    if not found.same:
        raise typer.Exit(console.FAILED)


def _diff_json(found: Any) -> dict[str, Any]:
    return {
        "same": found.same,
        "only_in_a": list(found.only_in_a),
        "only_in_b": list(found.only_in_b),
        "layers_only_in_a": list(found.layers_only_in_a),
        "layers_only_in_b": list(found.layers_only_in_b),
        "meta_same": found.meta_same,
        "tasks": [
            {
                "a": task.a,
                "b": task.b,
                "bits": task.bits,
                "distance": task.distance,
                "layers": {layer.name: {"bits": layer.bits, "distance": layer.distance} for layer in task.layers},
                "meta_same": task.meta_same,
                "extras_same": task.extras_same,
            }
            for task in found.tasks
        ],
    }
