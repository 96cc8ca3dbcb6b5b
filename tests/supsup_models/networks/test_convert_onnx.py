"""ONNX export: one line where its packages are missing, equal outputs where they are there."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from supsup_models import MaskedNetwork, convert, export_onnx
from supsup_models.errors import ConversionError, ExportError

PACKAGES = ("onnx", "onnxscript")


def test_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("supsup_models.networks.convert.onnx.find_spec", lambda name: None)
    model = convert(nn.Linear(3, 2))
    with pytest.raises(ExportError, match=r"pip install \"maskstore\[onnx\]\""):
        export_onnx(model, None, tmp_path / "model.onnx", torch.zeros(1, 3))
    assert not list(tmp_path.iterdir())


needs_packages = pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="needs the packages onnx and onnxscript")


class TwoInputs(nn.Module):
    """Adds two layers' outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.left(x) + self.right(y)


class FixedBatch(nn.Module):
    """Takes two images, never more or fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).reshape(2, 2, 2)


def answers(path: Path, *inputs: Tensor) -> Tensor:
    """What the written file answers, by onnx's own reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx
        from onnx.reference import ReferenceEvaluator

        written = onnx.load(path)
        onnx.checker.check_model(written)
        names = [each.name for each in written.graph.input]
        (found,) = ReferenceEvaluator(written).run(
            None, {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
        )
    return torch.from_numpy(found)


@needs_packages
@pytest.mark.parametrize("example", [1, 2])
def test_the_batch_is_free(example: int, tmp_path: Path) -> None:
    """For one input and for two, a converted model, a Transformer (whose batch of one was a constant), a perceptron."""
    torch.manual_seed(0)
    model, layer = convert(TwoInputs()), convert(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    perceptron = MaskedNetwork("lenet-300-100", inputs=3, outputs=4, seed=0)
    for network, shapes in ((model, [(3,), (5,)]), (layer, [(6, 8)]), (perceptron, [(3,)])):
        mask, path = network.mask_of(network.initial_scores(0)), tmp_path / "model.onnx"
        examples = tuple(torch.randn(example, *shape) for shape in shapes)
        export_onnx(network, mask, path, examples if len(shapes) > 1 else examples[0])
        for count in (1, 2, 7):
            inputs = [torch.randn(count, *shape) for shape in shapes]
            with torch.no_grad():
                expected = network.export(mask)(*inputs)
            torch.testing.assert_close(answers(path, *inputs), expected, rtol=1e-4, atol=1e-5)


@needs_packages
def test_a_fixed_batch_is_said_or_kept(tmp_path: Path) -> None:
    model, path = convert(FixedBatch()), tmp_path / "model.onnx"
    mask, images = model.mask_of(model.initial_scores(0)), torch.randn(2, 3)
    with pytest.raises(ConversionError, match="`dynamic_batch=False` keeps the sizes"):
        export_onnx(model, mask, path, images)
    assert not path.exists()
    export_onnx(model, mask, path, images, dynamic_batch=False)
    torch.testing.assert_close(answers(path, images), model(images, mask), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConversionError, match="expected a tensor, or a tuple"):
        export_onnx(model, mask, path, "images")


@needs_packages
def test_one_task_as_onnx_gives_equal_outputs(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model = convert(net, mask="edge-popup", density=0.3, seed=1)
    mask, extras = model.mask_of(model.initial_scores(0)), model.initial_statistics()
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    export_onnx(model, mask, tmp_path / "model.onnx", images, extras=extras)
    found = answers(tmp_path / "model.onnx", images)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert torch.allclose(found, model(images, mask, extras=extras), atol=1e-5)
