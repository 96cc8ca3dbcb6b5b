"""What a state dict says of frozen weights that it does not hold.

A seed gives the weights back, so a state dict has no key for them, and torch would load it into a network of another
seed without a word. What the weights follow from stands in the state dict's metadata, which torch saves with it.
"""

import warnings
from typing import Any

from supsup_models.errors import OtherNetworkError, StateDictWarning

_KEY = "frozen weights"


def write(state: Any, prefix: str, frozen_from: dict[str, Any]) -> None:
    """Add to a state dict what the weights of the network at `prefix` follow from."""
    if frozen_from and hasattr(state, "_metadata"):  # a caller may collect the tensors in a plain dict
        state._metadata[prefix[:-1]][_KEY] = frozen_from


def check(metadata: dict[str, Any], frozen_from: dict[str, Any]) -> None:
    """OtherNetworkError unless a network's metadata says the same; StateDictWarning if it says nothing."""
    found = metadata.get(_KEY)
    if not frozen_from or found == frozen_from:
        return
    if not isinstance(found, dict):
        warnings.warn(
            "state dict: expected the seed of its network in the metadata, found none; "
            f"its tensors are now used with seed {frozen_from['seed']}",
            StateDictWarning,
            stacklevel=5,
        )
        return
    differs = next((key for key in frozen_from if found.get(key) != frozen_from[key]), "weights")
    raise OtherNetworkError(
        f"state dict: expected {differs} {frozen_from.get(differs)!r:.80}, as this network has, "
        f"found {found.get(differs)!r:.80}; make the network again with that"
    )
