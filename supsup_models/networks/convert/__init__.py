"""Masks on any `nn.Module`: `convert(module)` freezes it and takes its weights out, `ConvertedModel` puts them back
masked in every call, `export_onnx` writes one task for other runtimes."""

from supsup_models.networks.convert.build import convert, mask_spec
from supsup_models.networks.convert.model import ConvertedModel
from supsup_models.networks.convert.onnx import export_onnx

__all__ = ["ConvertedModel", "convert", "export_onnx", "mask_spec"]
