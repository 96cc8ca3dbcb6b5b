# %% [markdown]
# # A mask bank in five minutes
#
# A **mask** has one bit for every weight of a network: 1 keeps the weight, 0 drops it. A **bank** is one file that holds
# many masks in few bits. This page needs no torch, and matplotlib for its picture.
#
# ## Masks to store
#
# Let a layer of 256 × 1024 weights be pruned to its largest tenth. Weights that training leaves are not all alike: some
# rows and columns matter more. We draw such weights, and prune them for twelve tasks that differ a little.

# %%
import numpy as np

rng = np.random.default_rng(0)
rows, columns = rng.gamma(2, size=(256, 1)), rng.gamma(2, size=1024)
weights = rng.normal(size=(256, 1024)) * rows * columns


def pruned(task: int) -> np.ndarray:
    """The largest tenth of the weights, as this task sees them."""
    seen = np.abs(weights * np.random.default_rng(task).lognormal(0, 0.2, weights.shape))
    return seen >= np.quantile(seen, 0.9)


masks = {f"task-{task}": {"layer": pruned(task)} for task in range(12)}
print(f"{masks['task-0']['layer'].mean():.1%} of the weights are kept")

# %% [markdown]
# ## Put them into a bank
#
# A bank has a **spec**: the names and shapes of the layers. All masks of a bank share it. `put` writes one mask, and the
# mask is on the disk when it returns. `meta` is whatever should stand beside it.

# %%
from pathlib import Path

from maskstore import MaskBank, MaskSpec, account, compact

with MaskBank.create("tasks.bank", MaskSpec.of(masks["task-0"])) as bank:
    for number, (name, mask) in enumerate(masks.items()):
        bank.put(name, mask, meta={"pruned for": number})
first_size = Path("tasks.bank").stat().st_size
print(f"{first_size} bytes for {len(masks)} masks")

# %% [markdown]
# ## Get one back
#
# A bank acts like a dictionary. A mask stays packed until `dense()` makes bool arrays of it. Every bit is as it was.

# %%
with MaskBank.open("tasks.bank") as bank:
    mask = bank["task-3"]
    print(list(bank)[:3], "...", len(bank), "masks")
    print(mask)
    print(np.array_equal(mask.dense()["layer"], masks["task-3"]["layer"]), bank.info("task-3").meta)

# %% [markdown]
# ## Make it smaller
#
# `put` takes the codec that is small and quick. `compact` tries all of them, and masks that resemble others are coded
# given those. It takes longer and loses nothing. On the command line it is `maskstore compact tasks.bank`.

# %%
compact("tasks.bank")
with MaskBank.open("tasks.bank") as bank:
    found = account(bank)
    same = all(np.array_equal(bank[name].dense()["layer"], masks[name]["layer"]) for name in masks)
print(f"{first_size} -> {found.file_bytes} bytes, every bit the same: {same}")
print(f"{8 * found.file_bytes / (len(masks) * weights.size):.3f} bits for each weight and task, everything counted")

# %% [markdown]
# ## How good is that?
#
# The same masks in formats that are at hand: one byte for each bit, as numpy stores bools; packed bits; packed bits under
# a general compressor; and the positions of the ones.

# %%
import matplotlib.pyplot as plt
import zstandard

packed = np.packbits(np.stack([mask["layer"] for mask in masks.values()]))
ones = sum(int(mask["layer"].sum()) for mask in masks.values())
sizes = {
    "numpy bools": 8 * packed.size,
    "positions of the ones,\n16 bits each": 2 * ones,
    "packed bits": packed.size,
    "packed bits, zstd": len(zstandard.ZstdCompressor(level=19).compress(packed.tobytes())),
    "bank, after put": first_size,
    "bank, after compact": found.file_bytes,
}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=(3, 2), layout="constrained")
bars = left.barh(list(sizes), [8 * size / (len(masks) * weights.size) for size in sizes.values()])
left.bar_label(bars, fmt="%.2f", padding=3)
left.set(xlabel="bits for each weight and task (log)", xscale="log", xlim=(0.1, 16))
left.invert_yaxis()
right.imshow(masks["task-0"]["layer"][:96, :128], cmap="Blues", aspect="auto")
right.set(title="a corner of task-0", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Go on
#
# - `maskstore ls tasks.bank`, `maskstore stats tasks.bank` and `maskstore verify tasks.bank` look at the file from the
#   command line.
# - [Import and export](../interop.md) reads the masks that other programs wrote.
# - [Two hundred tasks on one network](two_hundred_tasks.md) trains masks, and finds the task of an image.
