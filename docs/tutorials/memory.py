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
# To the right of the dotted line the memory is smaller than the patterns that it holds.
#
# ## Go on
#
# - [Associative memories](../hopfield.md) has all rules and memories with their measured limits, and what theory says.
# - A memory of masks gives the mask of a task back from **unlabelled images** alone: `supsup recover`, and the function
#   `hopfield.recover`.
