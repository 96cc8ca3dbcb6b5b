"""Checkpoints of "What's Hidden in a Randomly Weighted Neural Network?" (Ramanujan et al., 2020): one mask by scores.

A masked layer has frozen weights `LAYER.weight` and scores `LAYER.scores` of the same shape. The layer keeps a fraction
of its weights, those of the largest |scores|. The code calls the fraction its `prune_rate` and does not save it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskstore.errors import ForeignFileError, ImportOptionError
from maskstore.interop.model import ForeignMasks, ReadOptions
from maskstore.interop.readers.leaves import as_array, is_float, shape_of
from maskstore.interop.readers.named_arrays import read_arrays
from maskstore.interop.readers.supsup import largest

_SCORES = ".scores"


def has_one_score(state: Mapping[str, Any]) -> str:
    """What speaks for the layout: scores of the shape of the weights beside them; "" if nothing does."""
    return next((name for name in state if _layer(name) and _is_scored(state, _layer(name))), "")


def read_hidden(state: Mapping[str, Any], path: Path, options: ReadOptions) -> ForeignMasks:
    """One task: of each layer the `density` largest |scores|, equal ones ranked in C order.

    Scores that are all 0 and 1 are the mask itself: so the code writes a network whose mask was fixed.
    """
    scores = {_layer(name): value for name, value in state.items() if _layer(name) and _is_scored(state, _layer(name))}
    if not scores:
        raise ForeignFileError(f"{path}: expected LAYER{_SCORES} of the shape of LAYER.weight, found none")
    arrays = {}
    for layer, value in options.chosen(scores, str(path)).items():
        what = f"{path}, {layer}{_SCORES}"
        values = as_array(value, what)
        if np.isnan(values).any():
            raise ForeignFileError(f"{what}: expected scores, found NaN among them")
        if np.isin(values, (0, 1)).all():
            arrays[layer] = values == 1
        elif options.density is None:
            raise ImportOptionError(f"{what}: expected `density`, the fraction of weights that scores keep, "
                                    "found none given")  # fmt: skip
        else:
            arrays[layer] = largest(values, options.density)
    return read_arrays("hidden-networks", arrays, path, options, chosen=True)


def _layer(name: str) -> str:
    return name.removesuffix(_SCORES) if name.endswith(_SCORES) else ""


def _is_scored(state: Mapping[str, Any], layer: str) -> bool:
    scores, weights = state[f"{layer}{_SCORES}"], state.get(f"{layer}.weight")
    return is_float(scores) and weights is not None and shape_of(scores) == shape_of(weights)
