# %% [markdown]
# # How many bits does a task need?
#
# A mask has one bit for every weight, but it need not cost one. This page trains the same task with masks of several
# sizes, and looks at what each bit buys.
#
# ## Why a mask costs less than its bits
#
# A mask that keeps a share p of the weights carries at most H(p) bits a weight, the entropy of a coin that falls on one
# side with probability p. For half of the weights that is a whole bit; for a twentieth it is 0.29. A coder gets below
# that when it knows more: that some rows and columns are fuller, or which scores the training began with.

# %%
import numpy as np


def entropy(p: float) -> float:
    """H(p), bits."""
    return float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


print({p: round(entropy(p), 3) for p in (0.5, 0.2, 0.1, 0.05, 0.02)})

# %% [markdown]
# ## One task, several densities
#
# The recipe `default` trains sparse masks. Its **density** is the share of the weights that a mask keeps. We train two
# tasks at each density, and code each mask. `coded_bits` is what the mask takes, with all that is needed to read it.

# %%
from dataclasses import replace

from supsup_models import RECIPES, mask_accuracy, open_stream, train_task
from supsup_models.training import coded_bits

stream = open_stream("permuted-digits", tasks=2, seed=0)
rows = []
for density in (0.3, 0.1, 0.05, 0.03, 0.02, 0.015):
    recipe = RECIPES["default"]
    recipe = replace(recipe, sparse=replace(recipe.sparse, density=density))
    model = recipe.network("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
    found = []
    for task in stream:
        trained = train_task(model, task.train, recipe, task=task.index, steps=200)
        kept = sum(int(layer.sum()) for layer in trained.mask.dense().values()) / model.spec.bits
        found.append((kept, coded_bits(trained.mask, trained.prior), mask_accuracy(model, trained.mask, task.test)))
    rows.append(tuple(np.mean(found, axis=0)))
    kept, bits, accuracy = rows[-1]
    print(f"keeps {kept:.2%}: {bits:.4f} bits a weight (H(p) = {entropy(kept):.4f}), accuracy {accuracy:.1%}")

# %% [markdown]
# ## Masks of half of the weights, coded given the seed
#
# The published recipe keeps each weight whose score is at least 0: half of them. Plain packing takes one bit. But the
# scores begin at values that a seed gives, and training changes the sign of few. A reader who knows the seed needs to be
# told only where the mask differs.

# %%
from maskstore import Uniform
from supsup_models import MaskedNetwork

model = MaskedNetwork("lenet-300-100", inputs=64, outputs=100, classes=10, seed=0)
found = []
for task in stream:
    trained = train_task(model, task.train, RECIPES["paper"], task=task.index, steps=200)
    accuracy = mask_accuracy(model, trained.mask, task.test)
    found.append((coded_bits(trained.mask, Uniform()), coded_bits(trained.mask, trained.prior), accuracy))
alone, given, accuracy = np.mean(found, axis=0)
print(f"alone {alone:.3f} bits a weight, given the seed {given:.3f}, accuracy {accuracy:.1%}")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
_, bits, accuracies = zip(*rows, strict=True)
axes.plot(bits, accuracies, "o-", label="sparse masks, recipe `default`")
for kept, at, height in rows:
    axes.annotate(f"{kept:.1%}", (at, height), textcoords="offset points", xytext=(4, -12), fontsize="small")
axes.plot(given, accuracy, "s", label="half of the weights, given the seed")
axes.plot(alone, accuracy, "s", mfc="none", label="half of the weights, packed")
axes.set(xlabel="bits for each weight and task (log)", ylabel="test accuracy", xscale="log")
axes.legend(loc="lower right", fontsize="small")
plt.show()

# %% [markdown]
# What bits buy flattens: beyond some density, more weights bring nothing. `supsup train --target-bits 0.1` finds the
# density for a size.
#
# ## Go on
#
# - [Bits and accuracy](../results.md) compares all methods on several data sets, with every byte counted.
# - [Sparse masks and their bits](../rate.md) says how such masks are trained, and why their task can still be inferred.
