"""Masks on any `nn.Module`: `convert(module)` freezes it and takes its weights out, `ConvertedModel` puts them back
masked in every call, `export_onnx` writes one task for other runtimes."""

from supsup_models._requirements import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
