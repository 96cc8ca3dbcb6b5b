"""The weights that masks were coded against, out of a safetensors file."""

import os
from pathlib import Path

from maskstore.errors import SpecError
from maskstore.files import path_of
from maskstore.interop.readers import index_of, load_parts, load_safetensors
from maskstore.masks import MaskSpec
from maskstore.priors import Backbone


def read_backbone(path: str | os.PathLike[str], spec: MaskSpec | None = None, *, limit: int | None = None) -> Backbone:
    """The frozen weights of a network, out of a safetensors file of its state dict.

    Args:
        path: The file, the index of several (`model.safetensors.index.json`), or a folder with one index.
        spec: The masked layers; other tensors of the file are left out and not read. None takes all.
        limit: The most bytes of tensors that a file may hold, for one that you trust.

    Raises:
        ForeignFileError: Another file.
        SpecError: A layer of the spec is missing or has another shape.
        BackboneError: Tensors that are no floats of at most 32 bits, or not finite.
        LimitError: More bytes than `limit`.

    Examples:
        >>> import numpy as np, tempfile
        >>> from maskstore import MaskSpec
        >>> from maskstore.interop import read_backbone
        >>> from safetensors.numpy import save_file
        >>> state = {"fc.weight": np.ones((4, 3), dtype="f4"), "fc.bias": np.zeros(4, dtype="f4")}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file(state, f"{folder}/net.safetensors")
        ...     read_backbone(f"{folder}/net.safetensors", MaskSpec({"fc.weight": (4, 3)}))
        Backbone(12 weights, fingerprint e918ddff...)
    """
    file = path_of(path)
    index = index_of(file)
    tensors = (
        load_safetensors(file, limit)[0] if index is None else load_parts(index, lambda part: _tensors(part, limit))
    )
    names = list(tensors) if spec is None else [layer.name for layer in spec]
    if missing := [name for name in names if name not in tensors]:
        raise SpecError(f"{file}: expected weights of layer {missing[0]!r:.80}, found none")
    return Backbone({name: tensors[name].array(f"{file}, {name!r:.80}") for name in names}, spec)


def _tensors(part: Path, limit: int | None) -> dict[str, object]:
    return dict(load_safetensors(part, limit)[0])
