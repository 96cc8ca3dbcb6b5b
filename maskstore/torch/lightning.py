"""A Lightning callback that stores a module's mask when its training ends.

The only module that imports Lightning; nothing of maskstore imports it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskstore.bank import MaskBank
from maskstore.errors import needing
from maskstore.priors import Prior, Uniform
from maskstore.torch.pruning import pruned_mask

with needing("lightning", "maskstore.torch.lightning"):
    from lightning.pytorch import Callback, LightningModule, Trainer


class StoreMask(Callback):
    """Puts the mask of a pruned module into a bank at the end of `fit`, once, from the process of rank 0.

    What pruned the module does not matter: Lightning's own `ModelPruning` with `make_pruning_permanent=False`,
    `torch.nn.utils.prune` in the module itself, or a sparsifier of torchao.

    Args:
        bank: The bank file; made if it is not there.
        task: The mask's name in it.
        meta: What to store beside the mask. The metrics that were logged last are stored under `metrics`.
        prior: What is known about the mask, as in `MaskBank.put`.
        overwrite: Whether a mask of this name may be replaced.

    Raises:
        SpecError: At the end of `fit`: nothing is pruned, or the bank is of another network.
        TaskExistsError: At the end of `fit`: the bank has the task, and `overwrite` is not set.

    Examples:
        >>> from maskstore.torch.lightning import StoreMask  # doctest: +SKIP
        >>> trainer = Trainer(callbacks=[ModelPruning(...), StoreMask("tasks.bank", "task-0")])  # doctest: +SKIP
    """

    def __init__(
        self,
        bank: str | Path,
        task: str,
        *,
        meta: Mapping[str, Any] | None = None,
        prior: Prior | None = None,
        overwrite: bool = False,
    ) -> None:
        self.bank, self.task, self.overwrite = Path(bank), task, overwrite
        self.meta, self.prior = dict(meta or {}), Uniform() if prior is None else prior

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the mask off the module, and stores it."""
        if not trainer.is_global_zero:
            return
        mask = pruned_mask(pl_module)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        meta = {**self.meta, **({"metrics": metrics} if metrics else {})}
        with MaskBank.create(self.bank, mask.spec, exist_ok=True) as bank:
            bank.put(self.task, mask, meta=meta, prior=self.prior, overwrite=self.overwrite)
