# %% [markdown]
# # An associative memory, from Hopfield to sparse
#
# An associative memory gets a damaged pattern and gives back the whole one. It has no addresses: all patterns lie in one
# matrix of couplings between neurons. This page goes from the classic rule to memories for patterns with few ones.
#
# ## Store and recall
#
# A pattern is a row of values -1 and +1. We take pictures of digits: a pixel is +1 where it is dark.

# %%
import warnings
from statistics import mean, stdev

import torch
from sklearn.datasets import load_digits

from hopfield import HopfieldNetwork, PseudoInverse, patterns

pictures = torch.tensor(load_digits().data[:10] > 7).float() * 2 - 1
memory = HopfieldNetwork(64, rule=PseudoInverse())
memory.store(pictures)
generator = torch.Generator().manual_seed(0)
cues = patterns.flip(pictures, 0.15, generator)
recalled = memory.recall(cues)
print(f"{(recalled == pictures).all(1).sum()} of 10 pictures come back without a wrong pixel")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(3, 10, figsize=(10, 3.2), layout="constrained")
for row, (name, shown) in enumerate({"stored": pictures, "cue": cues, "recalled": recalled}.items()):
    for column in range(10):
        axes[row, column].imshow(shown[column].view(8, 8).numpy(), cmap="Blues", vmin=-1, vmax=1)
        axes[row, column].set(xticks=[], yticks=[])
    axes[row, 0].set_ylabel(name)
plt.show()

# %% [markdown]
# ## How much fits in?
#
# A **learning rule** turns patterns into couplings. Hebb's rule of 1949 adds up which neurons are on together. It holds
# d / (2 ln d) random patterns of d neurons. Storkey's rule holds more. The projection rule, which uses the inverse of the
# patterns' overlaps, holds nearly d. We store ever more patterns, and count how many are exact fixed points.

# %%
from hopfield import Hebbian, Storkey
from hopfield.capacity import scan_capacity

d, counts = 128, (4, 8, 12, 16, 24, 32, 48, 64, 96, 120)
rules = {"Hebb": Hebbian(), "Storkey": Storkey(), "projection": PseudoInverse()}


def made(rule) -> object:
    """What makes a memory of that rule for patterns."""

    def make(stored: torch.Tensor) -> HopfieldNetwork:
        memory = HopfieldNetwork(d, rule=rule)
        memory.store(stored)
        return memory

    return make


scans = {name: scan_capacity(made(rule), d, counts, seeds=3) for name, rule in rules.items()}
for name, points in scans.items():
    print(name, [f"{point.patterns}: {point.exact:.0%}" for point in points][::3])

# %% [markdown]
# ## Patterns with few ones
#
# A pattern of 512 neurons with ten ones carries far fewer bits, so a memory can hold far more of them, and can then be
# smaller than the patterns themselves. `Willshaw` has one bit for each pair of neurons: were they ever on together?
# `CoarseCovariance.learnt` learns its one-bit couplings.

# %%
from hopfield import CoarseCovariance, Teaching, Willshaw

sparse = []
for count in (100, 300, 600, 1000):
    stored = patterns.sparse_patterns(count, 512, 10, torch.Generator().manual_seed(count))
    damaged = patterns.move_ones(stored, 1, torch.Generator().manual_seed(1))
    willshaw = Willshaw(512, 10)
    willshaw.store(stored)
    learnt = CoarseCovariance.learnt(stored, Teaching(rounds=20))
    exact = [(each.recall(damaged) == stored).all(1).float().mean().item() for each in (willshaw, learnt)]
    sparse.append((count, *exact, willshaw.nbytes, learnt.nbytes, count * 512 // 8))
    print(f"{count} patterns: exact {exact[0]:.0%} and {exact[1]:.0%}; bytes {sparse[-1][3:]}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for name, points in scans.items():
    left.plot([point.patterns / d for point in points], [point.exact for point in points], "o-", label=name)
left.set(xlabel="patterns for each neuron", ylabel="exact fixed points", title="patterns with as many ones as zeros")
for column, name in ((1, "Willshaw"), (2, "learned one-bit couplings")):
    right.plot([row[0] / 512 for row in sparse], [row[column] for row in sparse], "o-", label=name)
same_size = sparse[0][4] / (512 // 8) / 512  # patterns for each neuron at which the couplings are as large
right.axvline(same_size, color="grey", ls=":", label="as large as the patterns")
right.set(xlabel="patterns for each neuron", ylabel="exact from damaged cues", title="patterns with 10 ones of 512")
left.legend()
right.legend(fontsize="small")
plt.show()

# %% [markdown]
# To the right of the dotted line the memory is smaller than the patterns that it holds. `CodedMemory` is smaller from
# the first pattern on: it keeps the patterns themselves, as coded gaps between their ones.

# %% [markdown]
# ## For physicists: temperature, and states that nobody stored
#
# With Hebb's rule the memory is a spin glass. `glauber` updates its spins by chance at a temperature T. The overlap m
# with a stored pattern then falls with T and with the load α = k / d, as Amit, Gutfreund and Sompolinsky computed in
# 1985. There are also states that nobody stored: the sign of the sum of three patterns is at rest at T = 0, with an
# overlap of one half with each. In very large networks such mixtures last up to T = 0.46, and patterns up to T = 1. In
# one of 400 neurons a mixture turns into one of its patterns a little earlier.

# %%
from hopfield import theory
from hopfield.dynamics import glauber

d, load = 400, 0.0075
stored = patterns.random_patterns(round(load * d), d, torch.Generator().manual_seed(0))
hebb = HopfieldNetwork(d, rule=Hebbian(), centre=None)
hebb.store(stored)
mixture = stored[:3].sum(0).sign()
print(f"mixture at rest: {(hebb.recall(mixture) == mixture).float().mean():.1%} of its spins")
temperatures, thermal = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75), []
for temperature in temperatures:
    start = torch.cat([stored, mixture[None]])
    after = glauber(hebb, start, temperature=temperature, sweeps=24, burn_in=12)
    overlaps = patterns.overlap(after, stored)
    of_patterns, of_mixture = overlaps.diagonal(), overlaps[-1, :3].sort().values
    thermal.append((of_patterns.mean(), of_patterns.std() / len(stored) ** 0.5, of_mixture[0], of_mixture[2]))
    print(f"T = {temperature}: m = {thermal[-1][0]:.3f}, theory {theory.hebbian_overlap(load, temperature):.3f}")

# %% [markdown]
# Patterns with few ones have a theory too: signal against noise says how many ones of a pattern are lost in one step
# (`hopfield.theory.wrong_ones`). Here are measured points with error bars, and the theory as lines.

# %%
from hopfield import Covariance

lost = {}
for share in (0.02, 0.05, 0.1):
    ones = round(share * 512)
    for gap in (2.5, 3.0, 3.5, 4.0, 4.5):
        count = round(theory.covariance_gap(512, ones, 1) ** 2 / gap**2)
        found = []
        for seed in range(3):
            memory = Covariance(512, ones)
            stored = patterns.sparse_patterns(count, 512, ones, torch.Generator().manual_seed(seed))
            with warnings.catch_warnings():  # beyond its limit on purpose
                warnings.simplefilter("ignore")
                memory.store(stored)
            found.append(float(((memory.field(stored) < 0) & (stored > 0)).sum() / (count * ones)))
        expected = theory.wrong_ones(512, ones, theory.covariance_gap(512, ones, count))
        lost.setdefault(share, []).append((count / 512, mean(found), stdev(found) / 3**0.5, expected))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
measured = left.errorbar(
    temperatures, [row[0] for row in thermal], [row[1] for row in thermal], fmt="o", label="pattern"
)
curve = [theory.hebbian_overlap(load, temperature) for temperature in temperatures]
left.plot(temperatures, curve, color=measured.lines[0].get_color(), label="theory")
left.plot(temperatures, [row[3] for row in thermal], "s:", label="mixture: largest overlap")
left.plot(temperatures, [row[2] for row in thermal], "v:", label="mixture: least overlap")
left.set(xlabel="temperature", ylabel="overlap m", title="Hebb's rule, load 0.0075")
for share, points in lost.items():
    x, y, error, expected = zip(*points, strict=True)
    bars = right.errorbar(x, y, error, fmt="o", markersize=3, label=f"p = {share}")
    right.plot(x, expected, color=bars.lines[0].get_color())
right.set(xlabel="patterns for each neuron", ylabel="ones lost in one step", title="covariance, 512 neurons")
left.legend(fontsize="small")
right.legend(fontsize="small")
plt.show()

# %% [markdown]
# ## Go on
#
# - [Associative memories](../hopfield.md) has all rules and memories with their measured limits, and what theory says.
# - A memory of masks gives the mask of a task back from **unlabelled images** alone: `supsup recover`, and the function
#   `hopfield.recover`.
