"""docs/results.md and its plots from benchmarks/results/*.json: `python -m benchmarks.results`.

Only published figures are typed.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.storage.cases import DATA_SETS, FULL, KINDS
from benchmarks.storage.columns import grouped, markdown
from benchmarks.storage.plots import draw, draw_panels, plot_path
from benchmarks.storage.results import read

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"
_TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "digits": "digits"}

_HEAD = """\
# Results: how many bits does a task need?

`python -m benchmarks.results` writes this page from `benchmarks/results/*.json`, and a test holds the two equal. The
last column of each row is the command that measures the row and writes it there. Run it in the root of a checkout, with
the extras `models` and `dev` installed. A row that was measured with the same configuration is measured again only with
`--again`. `pytest benchmarks/ -k storage --full` measures all rows that are missing. `pytest benchmarks/ -k storage -s`
measures a small version on the digits.

Rows of the recipe `default` and of the codec `mix` were measured before the changes of both that the
[changelog](../CHANGELOG.md) lists. The recipe's masks are smaller now, and `mix` is faster. These rows are to be
measured again.

The [glossary](glossary.md) explains the terms.

"""
_STREAMS = """\
## Accuracy and bytes

The network is LeNet-300-100 with 100 outputs, trained for {batches} batches of 128 a task, with seed {seed}.

- *bytes*: everything needed to run all tasks. For our banks, this is the whole file: names, metadata, index and
  unfilled pages included. For other formats, it is the coded masks, 4 bytes of index for each piece without a fixed
  length, and the seed of the network. For baselines, it is 4 bytes for every learned number, and a seed for what was
  not learned.
- *bits*: 8 · bytes / (tasks · weights of the masked network). All methods of a table have the same denominator.
- *task given*: the mean accuracy over tasks, on all test images (GG).
- *inferred*: the accuracy if the task is not given. The task of each image is inferred by itself, and an answer counts
  only if the task is right too (GNu). Masks use one-shot inference with H, unless the row says otherwise. Baselines
  take the task with the lowest entropy.
- *task found*: how often the inferred task is right.
- *encode*, *decode*: processor time of all threads for all tasks, the best of 3, from packed masks to bytes and back.
  Our times include writing a file to the disk, reading it, and checking it. The other formats stay in memory. The
  machine was shared and busy, so small differences mean nothing.
- Other formats store the masks of the recipe `paper`, so their accuracies are those of that row. A mask in a
  Huffman-coded stack can only be read together with the other masks of the stack.

"""
_MEMORIES = """\
## Hopfield memories

The table lists the bytes of memories that hold {tasks} masks of permuted MNIST. The seed of the network is counted.

Ψ has a coupling for every pair of bits. It is therefore built for *neuron* masks, with one bit for each of 2 · 1024
hidden neurons. They are trained as described under "our training" in [hopfield.md](hopfield.md). For *weight* masks
(those of the recipe `paper` above), half of Ψ in float32 would take {psi:.0f} GB. Only memories that keep the masks
themselves can be built for them. With this number of masks, no memory is smaller than the masks that it holds; but Ψ
does not grow with the number of masks. Ten neuron masks are so small that most of their bank is its fixed cost. The
accuracies of neuron masks and weight masks belong to two different networks and trainings.

"""
_IMAGENET = """\
## The published table of SplitImageNet, without its data

The published table (Wortsman et al. 2020, table 1) is for ResNet-50 and 100 tasks, with sparse masks that are stored
with 16-bit indices. The accuracies below are the published ones. The masks measured here are random masks of the same
sizes, in which every layer keeps the same share of its weights (edge-popup, uniform).

The densities are computed from the published megabytes (10⁶ bytes). In CSR, a kept weight takes 2 bytes and a row takes
4 bytes for its end. The normalisation statistics of a task are two float32 for each of {channels} channels. So one task
keeps (megabytes · 10⁶ / 100 - 4 · {rows} - 8 · {channels}) / 2 of {weights} weights. If the published sizes do not
include the statistics or the row ends, the published masks were denser. The public code names Erdős-Rényi budgets
instead, ε = {epsilons}. These would take {erdos_renyi} MB in this count, so they are not what the table counted.

Our file holds all 100 tasks. For the other formats, the masks of one task are coded, and bytes and seconds are
multiplied by 100. *entropy* is log₂ of the number of such masks; no code for random masks can be smaller.

"""

_PUBLISHED = """\
## Published sizes of single MNIST networks

These figures are published ones, of other networks. We did not measure them. Each is one network for plain MNIST, whose
task is known, and most store float or quantised weights. Ours are masks of LeNet-300-100 with 100 outputs for permuted
MNIST, which also name their task; [rate.md](rate.md) has their figures.

| published | network | bytes | test error, % | source |
| --- | --- | --- | --- | --- |
| MIRACLE | LeNet-5, convolutional | about 3 100 | 0.69 | Havasi, Peharz and Hernández-Lobato, ICLR 2019 |
| MIRACLE, smaller | LeNet-5, convolutional | about 1 500 | 0.96 | the same |
| Bayesian Compression | LeNet-5, convolutional | about 4 100 | 1.0 | Louizos, Ullrich and Welling, NeurIPS 2017 |
| Deep Compression | LeNet-300-100 | about 27 000 | 1.6 | Han, Mao and Dally, ICLR 2016 |
| signed supermasks, 3.77 % of the weights | LeNet-300-100 |  | 2.52 | Koster, Grothe and Rettinger, ICLR 2022 |

"""
_SPARSE = """\
## A small sparse bank, by everything that codes bits

{tasks} masks of {stream}, LeNet-300-100, by the recipe `default` at density {density}: the three layers keep 1, 8 and
23 % of their weights. *bits* are bits for each weight and mask. Rows of ours that are no whole file are what a row of a
bank has for a mask, tables and checksums of its layers included; the seed is in the row as well, in a few bytes. Other
formats take 4 bytes of index for each mask, and those that code layer by layer 4 bytes for each layer. Nothing else can
be given a seed. The coders are optional: one that is not installed is left out when the table is measured.

"""
_PRUNED = """\
## Masks of a pruned transformer, without its weights

The shapes are those of the linear layers of Llama 3.2 1B, {weights} weights in {blocks} equal blocks, of which
{coded} is coded and counted {blocks} times. **No real weights are used**: weights are drawn by seed, with scales for
rows and columns, and the norms of the inputs for Wanda with outliers, as `benchmarks/storage/pruned.py` says. How well
a mask can be coded depends on these, so the rows compare coders. *entropy of the pattern* is the least of what
independent bits need with one probability for a layer, for each row, or for each column, without tables; for 2 of 4 it
is log₂ 6 / 4 bits.

"""
_BACKBONE = """\
## Tasks on a trained network

The network is EfficientNet-Lite0 with ImageNet weights, of which {weights} are masked. The {tasks} tasks are MNIST,
Fashion-MNIST and digits, plain, turned and inverted, as images of 64 × 64. Each method has {steps} steps of {batch}
images a task, with the same images in the same order. [backbones.md](backbones.md) says what the masks are.

- *bytes* are those of one task: for masks an eighth of the whole bank, for other methods 2 bytes for each learned
  number, the head included.
- *bits*: 8 · bytes / masked weights.
- *task found*: how often inference by prototypes finds the task of one image, and of 16 images together.

![accuracy against bits, trained network](../benchmarks/results/pareto-backbone.svg)

"""


def page(results: Path = RESULTS) -> str:
    """The whole page."""
    found = {path.stem: read(path) for path in sorted(results.glob("*.json"))}
    parts = [_HEAD]
    streams = {name: found[name] for data_set in DATA_SETS for kind in KINDS if (name := f"{kind}-{data_set}") in found}
    if streams:
        config = next(iter(next(iter(streams.values())).values()))["config"]
        parts.append(_STREAMS.format(**config))
    for data_set in DATA_SETS:
        of_set = [name for name in streams if name.partition("-")[2] == data_set]
        if of_set:
            plot = plot_path(Path("../benchmarks/results"), data_set)
            parts.append(f"### {_TITLES[data_set]}\n\n![accuracy against bits, {_TITLES[data_set]}]({plot})\n\n")
        parts += [f"**{name}**, {_size(streams[name])}\n\n{markdown(name, streams[name])}\n" for name in of_set]
    if rows := found.get("memories"):
        weights = next(row["notes"]["mask_bits"] for row in rows.values() if row["notes"]["masks"] == "weight masks")
        tasks = FULL["permuted-mnist"].tasks
        parts += [_MEMORIES.format(tasks=tasks, psi=2 * weights**2 / 1e9), markdown("memories", rows), "\n"]
    if rows := found.get("resnet-50"):
        parts += [_imagenet(next(iter(rows.values()))["notes"]), markdown("resnet-50", rows), "\n"]
    if rows := found.get("sparse-bank"):
        parts += [_SPARSE.format(**next(iter(rows.values()))["config"]), markdown("sparse-bank", rows), "\n"]
    if rows := found.get("pruned-1b"):
        first = next(iter(rows.values()))
        sizes = {**first["config"], "weights": grouped(first["parameters"])}
        parts += [_PRUNED.format(**sizes), markdown("pruned-1b", rows), "\n"]
    if rows := found.get("backbone"):
        parts += [_backbone(rows), "\n"]
    parts.append(_PUBLISHED)
    parts.append(_made(row for rows in found.values() for row in rows.values()))
    return "".join(parts)


def _size(rows: Mapping[str, Any]) -> str:
    row = next(iter(rows.values()))
    return f"{row['tasks']} tasks, {grouped(row['parameters'])} weights:"


def _backbone(rows: Mapping[str, Any]) -> str:
    first = next(iter(rows.values()))
    lines = ["| method | accuracy, % | bytes | bits | task found, 1 / 16, % | command |", "|---|---|---|---|---|---|"]
    for row in rows.values():
        sure = [row["notes"].get(name) for name in ("found_alone", "found_together")]
        told = " / ".join("–" if share is None else f"{100 * share:.1f}" for share in sure)
        size, bits = grouped(row["bytes"] // row["tasks"]), f"{row['bits_per_parameter']:.3f}"
        lines.append(
            f"| {row['title']} | {100 * row['accuracy']:.1f} | {size} | {bits} | {told} | `{row['command']}` |"
        )
    head = _BACKBONE.format(tasks=first["tasks"], weights=grouped(first["parameters"]), **first["config"])
    return head + "".join(f"{line}\n" for line in lines)


def _imagenet(notes: Mapping[str, Any]) -> str:
    sizes = {name: grouped(size) for name, size in notes["sizes"].items()}
    public = notes["erdos_renyi_megabytes"]
    erdos_renyi = _listed(f"{size:.0f}" for size in public.values())
    return _IMAGENET.format(**sizes, epsilons=_listed(public), erdos_renyi=erdos_renyi)


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}"


def _made(rows: Iterable[Mapping[str, Any]]) -> str:
    """Where and when: one line for each machine, set of versions and day."""
    made = {
        f"- {row['made']['date']}: {row['made']['machine']}; "
        + ", ".join(f"{name} {version}" for name, version in row["made"]["versions"].items())
        for row in rows
    }
    return "## Measured on\n\n" + "".join(f"{line}\n" for line in sorted(made))


if __name__ == "__main__":
    for data_set in DATA_SETS:
        draw(RESULTS, data_set)
    if (measured := RESULTS / "backbone.json").exists():
        draw_panels({"8 tasks on EfficientNet-Lite0": read(measured)}, plot_path(RESULTS, "backbone"))
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}: written from {RESULTS.relative_to(ROOT)}")
