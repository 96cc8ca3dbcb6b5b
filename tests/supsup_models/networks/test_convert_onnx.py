"""ONNX export: one line where its packages are missing, equal outputs where they are there."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from supsup_models import convert, export_onnx
from supsup_models.errors import ExportError

PACKAGES = ("onnx", "onnxscript")


def test_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("supsup_models.networks.convert.onnx.find_spec", lambda name: None)
    model = convert(nn.Linear(3, 2))
    with pytest.raises(ExportError, match="pip install onnx onnxscript"):
        export_onnx(model, None, tmp_path / "model.onnx", torch.zeros(1, 3))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="needs the packages onnx and onnxscript")
def test_one_task_as_onnx_gives_equal_outputs(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model = convert(net, mask="edge-popup", density=0.3, seed=1)
    mask, extras = model.mask_of(model.initial_scores(0)), model.initial_statistics()
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its dependencies
        export_onnx(model, mask, tmp_path / "model.onnx", images, extras=extras)
        import onnx
        from onnx.reference import ReferenceEvaluator

        written = onnx.load(tmp_path / "model.onnx")
        onnx.checker.check_model(written)
        (found,) = ReferenceEvaluator(written).run(None, {written.graph.input[0].name: images.numpy()})
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert torch.allclose(torch.from_numpy(found), model(images, mask, extras=extras), atol=1e-5)
