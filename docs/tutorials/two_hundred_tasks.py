# %% [markdown]
# # Two hundred tasks on one network, named from the data
#
# One network with **frozen random weights** solves 200 tasks. Each task has a mask that says which weights count. Then
# come images without a label and without a word about their task, and the network says which task they are from. This is
# *Supermasks in Superposition* (Wortsman et al., NeurIPS 2020).
#
# ## The tasks
#
# Each task is to read the ten digits under a permutation of the pixels of its own. The digits are 8 × 8 pixels and come
# with scikit-learn, so nothing is downloaded. `open_stream("permuted-mnist", ...)` is the same with the MNIST files.

# %%
from supsup_models import open_stream

stream = open_stream("permuted-digits", tasks=200, seed=0)
print(len(stream), "tasks,", stream[0].train.labels.shape[0], "training images each,", stream.inputs, "pixels")

# %% [markdown]
# ## The network
#
# The weights are +c or -c, drawn from a seed. They are never trained and never stored. The network has 100 outputs for
# ten digits: the other 90 tell a right mask from a wrong one.

# %%
from supsup_models import RECIPES

recipe = RECIPES["default"]
model = recipe.network("lenet-300-100", inputs=stream.inputs, outputs=100, classes=10, seed=0)
print(model.spec.shapes, f"{model.spec.bits} weights")

# %% [markdown]
# ## Train a mask for each task
#
# Training finds which weights to keep. It takes a tenth of a second or so for each task here. The masks go straight into
# a bank. Its metadata has the seed, so the file is the whole model: network and all tasks.

# %%
from pathlib import Path

from maskstore import MaskBank
from supsup_models import train_many

with MaskBank.create("tasks.bank", model.spec, meta=model.bank_meta()) as bank:
    for task, trained in zip(stream, train_many(model, stream, recipe, steps=60), strict=True):
        bank.put(task.name, trained.mask, prior=trained.prior)
size = Path("tasks.bank").stat().st_size
print(f"{size} bytes: {8 * size / (len(stream) * model.spec.bits):.3f} bits for each weight and task")
print(f"one trained network for each task: {4 * len(stream) * model.spec.bits} bytes")

# %% [markdown]
# ## Which task is this image from?
#
# All 200 masks are put on the network at once, with equal shares. One derivative says, for every mask, whether more of it
# would make the outputs look more like an answer. The mask with the largest score is the guess. `infer_each` sees images
# alone: neither labels nor the task.

# %%
import torch

from supsup_models import MaskedNetwork, infer_each

with MaskBank.open("tasks.bank") as bank:  # as another program would do
    model, matrix = MaskedNetwork.from_bank(bank), bank.matrix()

asked = range(0, 200, 4)
images = torch.cat([stream[task].test.images(slice(0, 8)) for task in asked])
truth = torch.tensor([task for task in asked for _ in range(8)])
labels = torch.cat([stream[task].test.labels[:8] for task in asked])
guesses = infer_each(model, matrix, images, method="one-shot")
print(f"the task is right for {(guesses.tasks == truth).float().mean():.1%} of {len(images)} single images")

# %% [markdown]
# ## And which digit is it?
#
# The mask of the guessed task is put on the network alone, and the largest of the first ten outputs is the digit.

# %%
answers = torch.cat([model(images[at : at + 1], matrix[int(guesses.tasks[at])])[:, :10] for at in range(len(images))])
right = (answers.argmax(1) == labels) & (guesses.tasks == truth)
print(f"task and digit are right for {right.float().mean():.1%}")

# %% [markdown]
# ## One image among 200 masks
#
# The scores of all masks for one image of task 120.

# %%
import matplotlib.pyplot as plt

one = infer_each(model, matrix, stream[120].test.images(slice(3, 4)), method="one-shot")
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), width_ratios=(1, 4), layout="constrained")
left.imshow(stream[120].test.images(slice(3, 4)).reshape(8, 8).numpy(), cmap="Blues")
left.set(title="what the network sees", xticks=[], yticks=[])
right.bar(range(200), one.scores[0], color=["C3" if task == 120 else "C0" for task in range(200)])
right.set(xlabel="mask of task", ylabel="score", title=f"guess: {matrix.names[int(one.tasks[0])]}", xmargin=0.01)
plt.show()

# %% [markdown]
# ## Go on
#
# - `supsup train --stream permuted-digits --tasks 200 --out run` does the same from the command line, keeps a record, and
#   continues where it was interrupted. `supsup report run` makes a page of it.
# - [How many bits does a task need?](bits_of_a_task.md) makes the masks smaller.
# - [Scenarios](../scenarios.md) has the other methods of inference, and learning when nobody says where a task begins.
