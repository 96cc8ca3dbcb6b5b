"""docs/results.md and its plots from benchmarks/results/*.json: `python -m benchmarks.results`. Nothing is typed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.storage.cases import DATA_SETS, FULL, KINDS
from benchmarks.storage.columns import grouped, markdown
from benchmarks.storage.plots import draw, plot_path
from benchmarks.storage.results import read

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"
_TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "digits": "digits"}

_HEAD = """\
# Results: how many bits does a task need?

Made by `python -m benchmarks.results` from `benchmarks/results/*.json`; a test holds the two equal. Each row names the
command that measures it and writes it there, from the root of a checkout with the extras `models` and `dev`. A row that
is there under the same configuration is measured anew only with `--again`. `pytest benchmarks/ -k storage --full`
measures every row that is missing, `pytest benchmarks/ -k storage -s` a small version on the digits.

"""
_STREAMS = """\
## Accuracy and bytes

LeNet-300-100 with 100 outputs, {batches} batches of 128 a task, seed {seed}.

- *bytes*: everything needed to run all tasks. Of ours the whole bank file with names, metadata, index and unfilled
  pages; of other formats the coded masks, 4 bytes of index for each piece without a fixed length, and the network's
  seed; of baselines every learned number in 4 bytes, and a seed for what was not learned.
- *bits*: 8 · bytes / (tasks · weights of the masked network), so with one denominator for all methods of a table.
- *task given*: mean accuracy over tasks on all test images (GG). *inferred*: nobody says the task, each image is asked
  by itself, and an answer counts only if the task is right too (GNu); masks by one-shot inference with H unless the
  row says otherwise, baselines by the lowest entropy of all tasks. *task found*: the task alone.
- *encode*, *decode*: seconds of the processor, of all threads, for all tasks, the best of 3, from packed masks to bytes
  and back. Ours end and begin with a file on the disk and check it; the others stay in memory. The machine was shared
  and busy, so small differences mean nothing.
- Other formats hold the masks of the recipe `paper`, so their accuracies are the same as that row's. A mask in
  Huffman-coded stacks can only be read with the others of its stack.

"""
_MEMORIES = """\
## Hopfield memories

Bytes of memories that hold {tasks} masks of permuted MNIST; the network's seed is counted. Ψ has a coupling for every
pair of bits, so it is built over *neuron* masks, one bit for each of 2 · 1024 hidden neurons, by the training that
[hopfield.md](hopfield.md) calls ours. Over *weight* masks, those of the recipe `paper` above, half of Ψ in float32
would take {psi:.0f} GB, and only what keeps the masks themselves can be built. At this load no memory is smaller than
the masks it holds; Ψ does not grow with them. A bank's fixed cost is most of what ten neuron masks take in it. The
accuracies are those of the masks, of two different networks and trainings.

"""
_IMAGENET = """\
## The published table of SplitImageNet, without its data

Wortsman et al. 2020, table 1: ResNet-50, 100 tasks, sparse masks with 16-bit indices. The accuracies are theirs; masks
here are random, of the same sizes: every layer keeps the same share (edge-popup, uniform). The densities are worked
out from the megabytes (10⁶ bytes). In CSR a kept weight takes 2 bytes, a row 4 bytes for its end, and a task's
normalisation statistics are two float32 for each of {channels} channels, so that one task keeps
(megabytes · 10⁶ / 100 - 4 · {rows} - 8 · {channels}) / 2 of {weights} weights. If the published sizes left out the
statistics or the row ends, their masks were denser. The public code names Erdős-Rényi budgets instead, ε = {epsilons},
which would be {erdos_renyi} MB by this count and so are not what was counted. Of ours, all 100 tasks are in one file;
for the other formats one task's masks are coded, and bytes and seconds multiplied by 100. *entropy* is log₂ of the
number of such masks: no code for random masks can go below it.

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
    parts.append(_made(row for rows in found.values() for row in rows.values()))
    return "".join(parts)


def _size(rows: Mapping[str, Any]) -> str:
    row = next(iter(rows.values()))
    return f"{row['tasks']} tasks, {grouped(row['parameters'])} weights:"


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
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}: written from {RESULTS.relative_to(ROOT)}")
