# %% [markdown]
# # Customers on a pretrained backbone
#
# You have one trained network and many customers. Each has classes and images of its own. A copy of the network for each
# is too much. Here each customer gets a **mask** that drops a few of its weights, its own normalisation, and a small
# **head**: a few kilobytes. Nothing is downloaded: the backbone is trained here, in seconds.
#
# ## A backbone
#
# A small convolutional network learns the ten digits, as a large one would have learned ImageNet.

# %%
import torch
from torch import nn

from supsup_models import open_stream


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(24, 48, 3, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.Flatten()),
        )
        self.fc = nn.Linear(48 * 4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(images))


torch.manual_seed(0)
net = Backbone()
digits, *customers = open_stream("transformed-digits", tasks=9, seed=0)  # the first task has the digits as they are
pixels, labels = digits.train.images(slice(None)).view(-1, 1, 8, 8), digits.train.labels
optimiser = torch.optim.Adam(net.parameters(), 3e-3)
for _ in range(300):
    chosen = torch.randint(len(labels), (64,))
    loss = nn.functional.cross_entropy(net(pixels[chosen]), labels[chosen])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
net.eval()
print(f"{sum(p.numel() for p in net.parameters())} parameters")

# %% [markdown]
# ## Make room for customers
#
# `convert` takes the network as it is. `weights="keep"` keeps its trained weights. `head="fc"` gives each customer a last
# layer of its own, and `own="norm"` normalisation of its own. The mask is on all other weights.

# %%
from supsup_models import convert

model = convert(net, weights="keep", head="fc", own="norm", image_shape=(1, 8, 8), classes=10)
print(model.spec.shapes)

# %% [markdown]
# ## Eight customers
#
# The digits of each customer are changed in a way of its own: turned, mirrored, inverted and so on. The recipe `backbone`
# starts from all weights and drops one only where the loss asks for it.

# %%
from dataclasses import replace

from maskstore import KeptWeights, MaskBank
from supsup_models import RECIPES, Kept, mask_accuracy, train_task

recipe = replace(RECIPES["backbone"], kept=Kept.for_bits(0.1))
prior = KeptWeights(model.backbone())
untouched = {}
with MaskBank.create("customers.bank", model.spec, meta=model.bank_meta()) as bank:
    for task in customers:
        shown = task.test.images(slice(None)).view(-1, 1, 8, 8)
        untouched[task.name] = (net(shown).argmax(1) == task.test.labels).float().mean().item()
        trained = train_task(model, task.train, recipe, task=task.index, steps=150)
        bank.put(task.name, trained.mask, extras=trained.rounded(), prior=prior)

# %% [markdown]
# `KeptWeights` codes a mask given the sizes of the backbone's weights, since small ones are dropped more often. A reader
# needs the same backbone; the bank has its fingerprint.
#
# ## What a customer costs, and what it gets

# %%
rows = []
with MaskBank.open("customers.bank", backbone=model.backbone()) as bank:
    for task in customers:
        info, extras = bank.info(task.name), bank.extras(task.name)
        own = mask_accuracy(model, bank[task.name], task.test, extras)
        rows.append((task.name, untouched[task.name], own, info.coded_bytes, info.extras_bytes))
copy = 4 * sum(p.numel() for p in net.parameters())
for name, before, own, mask_bytes, extras_bytes in rows:
    print(f"{name}: {before:.1%} -> {own:.1%}, mask {mask_bytes} + own parameters {extras_bytes} bytes")
print(f"a copy of the network: {copy} bytes; it grows with the network, the head does not")

# %%
import matplotlib.pyplot as plt

names, before, own, masks, extras = (list(column) for column in zip(*rows, strict=True))
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.bar(range(8), own, label="with the customer's mask, norms and head")
left.plot(range(8), before, "ko", label="the backbone as it was")
left.set(xlabel="customer", ylabel="test accuracy", ylim=(0, 1.3))
left.legend(loc="upper right", fontsize="small")
right.bar(["mask", "head and norms", "a copy of\nthe network"], [sum(masks) / 8, sum(extras) / 8, copy])
right.set(ylabel="bytes for a customer (log)", yscale="log")
plt.show()

# %% [markdown]
# ## Go on
#
# - [Many tasks on a network that you have](../backbones.md) has the details, and how to find out which customer an image
#   is from.
# - [Serving](../serving.md) keeps one network in memory and answers for thousands of customers.
