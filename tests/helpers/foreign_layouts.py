"""Writers of foreign layouts, as the released code of each writes them; the importers are held against them.

A network is a dict from layer path to shape; masks are dicts of bool arrays.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

Dense = dict[str, np.ndarray]


def dense_masks(shapes: dict[str, tuple[int, ...]], seed: int, density: float = 0.4) -> Dense:
    """Random masks."""
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape) < density for name, shape in shapes.items()}


def wsn_tree(tasks: int, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> tuple[dict[int, Any], list[Dense]]:
    """`per_task_masks` of Winning SubNetworks: uint8 by path, None for layers without bias, a head for each task."""
    import torch

    tree, masks = {}, []
    for task in range(tasks):
        own = dense_masks(shapes | {f"last.{task}.weight": (3, 5)}, seed + task)
        masks.append(own)
        tree[task] = {}
        for name, mask in own.items():
            tree[task][name] = torch.from_numpy(mask).to(torch.uint8)
            if name.endswith(".weight"):
                tree[task][name.replace(".weight", ".bias")] = None
    return tree, masks


def packnet_tree(names: list[str], shapes: dict[int, tuple[int, ...]], seed: int = 0) -> tuple[dict, list[Dense]]:
    """PackNet's `previous_masks` and `dataset2idx`; the mask of data set k is every owner from 1 to k."""
    import torch

    rng = np.random.default_rng(seed)
    owners = {index: rng.integers(0, len(names) + 1, shape, dtype=np.uint8) for index, shape in shapes.items()}
    tree = {
        "dataset2idx": {name: i + 1 for i, name in enumerate(names)},
        "previous_masks": {index: torch.from_numpy(array) for index, array in owners.items()},
        "epoch": 3,
    }
    masks = [
        {str(index): np.isin(array, range(1, k + 2)) for index, array in owners.items()} for k in range(len(names))
    ]
    return tree, masks


def hidden_state(shapes: dict[str, tuple[int, ...]], density: float, seed: int = 0) -> tuple[dict, Dense]:
    """A state dict of hidden-networks, and the masks that its `GetSubnet` computes, in torch."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state, masks = {}, {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator)
        scores = state[f"{name}.scores"] = torch.randn(shape, generator=generator)
        out = scores.abs().clone()
        _, order = out.flatten().sort(stable=True)
        flat = out.flatten()
        flat[order[: int((1 - density) * scores.numel())]] = 0
        flat[order[int((1 - density) * scores.numel()) :]] = 1
        masks[name] = flat.reshape(shape).numpy() == 1
    return state, masks


def bitmask_arrays(masks: Dense, *, two_of_four: bool = False) -> Dense:
    """compressed-tensors' `sparse-bitmask` tensors, or those of its 2:4 format, which has no offsets of rows."""
    arrays = {}
    for name, mask in masks.items():
        packed = np.packbits(mask, axis=-1, bitorder="little")
        counts = mask.sum(axis=-1)
        shape = np.array(mask.shape, dtype=np.int64)
        arrays[f"{name}.shape"] = shape.reshape(-1, 1) if two_of_four else shape
        arrays[f"{name}.bitmask"] = packed
        arrays[f"{name}.compressed"] = np.random.default_rng(0).standard_normal(int(mask.sum())).astype(np.float16)
        if not two_of_four:
            arrays[f"{name}.row_offsets"] = np.cumsum(counts, axis=0) - counts
    return arrays


def safetensors_bytes(
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]], meta: dict[str, str] | None = None
) -> bytes:
    """A safetensors file of tensors of any type, by the format's own description."""
    table: dict[str, Any] = {"__metadata__": meta} if meta else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + b"".join(data for _, _, data in tensors.values())


def stored(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """An array as safetensors stores it."""
    kinds = {"b": "BOOL", "u": "U", "i": "I", "f": "F"}
    kind = kinds[array.dtype.kind]
    name = kind if kind == "BOOL" else f"{kind}{8 * array.dtype.itemsize}"
    return name, array.shape, np.ascontiguousarray(array).tobytes()


def bfloat16(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """Values as bfloat16, which numpy lacks: the upper half of a float32."""
    upper = np.ascontiguousarray(values, dtype="<f4").view("<u4") >> 16
    return "BF16", values.shape, upper.astype("<u2").tobytes()


def sharded_folder(folder: Path, arrays: Dense, parts: int = 3) -> Path:
    """A checkpoint in several safetensors files with an index, as the Hugging Face hub has them; returns the index."""
    folder.mkdir(exist_ok=True)
    names = list(arrays)
    step = math.ceil(len(names) / parts)
    places = {}
    for part in range(0, len(names), step):
        file = f"model-{part // step + 1:05}-of-{parts:05}.safetensors"
        own = {name: stored(arrays[name]) for name in names[part : part + step]}
        (folder / file).write_bytes(safetensors_bytes(own, {"format": "pt"}))
        places |= dict.fromkeys(own, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index
