"""The Lightning callback, in a real `fit`."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

import lightning.pytorch as lightning
import torch
from torch.nn.utils import prune

from maskstore import MaskBank
from maskstore.errors import SpecError, TaskExistsError
from maskstore.torch import pruned_mask
from maskstore.torch.lightning import StoreMask

pytestmark = pytest.mark.filterwarnings("ignore")


class Regression(lightning.LightningModule):
    def __init__(self, pruned: bool) -> None:
        super().__init__()
        self.body = torch.nn.Linear(8, 4)
        if pruned:
            prune.random_unstructured(self.body, "weight", amount=0.75)

    def training_step(self, batch, _):
        loss = ((self.body(batch[0]) - 1) ** 2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module, *callbacks, folder):
    data = torch.utils.data.TensorDataset(torch.rand(16, 8))
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "enable_checkpointing": False,
    }
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **quiet
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))


def test_the_mask_and_the_metrics_are_stored_when_training_ends(tmp_path):
    module, path = Regression(pruned=True), tmp_path / "tasks.bank"
    fit(module, StoreMask(path, "task-0", meta={"note": "first"}), folder=tmp_path)
    with MaskBank.open(path) as bank:
        assert bank["task-0"] == pruned_mask(module)
        assert bank["task-0"].ones == 8
        meta = bank.info("task-0").meta
    assert meta["note"] == "first"
    assert 0 < meta["metrics"]["loss"] < 10
    with pytest.raises(TaskExistsError):
        fit(module, StoreMask(path, "task-0"), folder=tmp_path)
    fit(module, StoreMask(path, "task-0", overwrite=True), StoreMask(path, "task-1"), folder=tmp_path)
    with MaskBank.open(path) as bank:
        assert list(bank) == ["task-0", "task-1"]


def test_lightnings_own_pruning_is_stored(tmp_path):
    module = Regression(pruned=False)
    pruning = lightning.callbacks.ModelPruning(
        "l1_unstructured", parameters_to_prune=[(module.body, "weight")], amount=0.5, make_pruning_permanent=False,
        use_lottery_ticket_hypothesis=False,
    )  # fmt: skip
    fit(module, pruning, StoreMask(tmp_path / "a.bank", "t"), folder=tmp_path)
    with MaskBank.open(tmp_path / "a.bank") as bank:
        assert bank["t"].ones == int((module.body.weight != 0).sum()) == 16


def test_a_module_without_masks_is_named(tmp_path):
    with pytest.raises(SpecError, match="found none"):
        fit(Regression(pruned=False), StoreMask(tmp_path / "a.bank", "t"), folder=tmp_path)
    assert not (tmp_path / "a.bank").exists()
