"""`Teaching`: how one-bit couplings are learnt, and the learning around the loop of `learning`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hopfield.errors import RuleError
from hopfield.memories.sparse.learning import show_all
from maskstore.philox import Role, random_permutation

_RESOLUTION = 100.0  # hidden numbers of the size of a standard deviation at the start: how fine the learning is
_MOST = 30_000
_BIAS_STEP = 0.02


@dataclass(frozen=True)
class Teaching:
    """How one-bit couplings are learnt: see `hopfield.memories.sparse.learning`.

    Args:
        rounds: How often every pattern is shown, at most.
        moved: Share of the ones that are elsewhere in the cues that are shown, in [0, 1): what recall is to mend.
        margin: How far the drives of neurons that are on and off are to lie apart, in neurons of the cue.
        seed: What the cues and their order follow from.

    Raises:
        RuleError: A number outside its range.

    Examples:
        >>> from hopfield import Teaching
        >>> Teaching(rounds=200).moved
        0.1
    """

    rounds: int = 100
    moved: float = 0.1
    margin: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 <= self.moved < 1 or not 0 <= self.margin < 1000 or not 0 <= self.seed < 2**63:
            raise RuleError(
                "Teaching: expected rounds >= 1, moved in [0, 1), margin in [0, 1000) and a seed from 0 to 2**63 - 1, "
                f"found {self}"
            )


def taught(
    patterns: NDArray[np.bool_], ones: int, teaching: Teaching
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bits `(d, d)` as -1 and +1, and a bias for each neuron `(d,)`; both float32."""
    count, dim = patterns.shape
    active = patterns.astype(np.float32)
    use = active.mean(axis=0)
    away = active - use
    graded = away.T @ away
    np.fill_diagonal(graded, 0)
    graded *= _RESOLUTION / max(float(graded.std()), 1e-12)
    hidden = np.clip(np.rint(np.triu(graded) + np.triu(graded).T), -_MOST, _MOST).astype(np.int16)
    bits = (hidden > 0).astype(np.uint8)
    bias = (bits @ use).astype(np.float32)
    on = np.nonzero(patterns)[1].reshape(count, ones).astype(np.int64)
    moved = min(round(teaching.moved * ones), dim - ones)
    state = np.array([0x9E3779B97F4A7C15 ^ (2 * teaching.seed + 1)], dtype=np.uint64)
    for turn in range(teaching.rounds):
        order = np.asarray(random_permutation(teaching.seed, Role.SAMPLE, count, stream=turn), dtype=np.int64)
        right = show_all(
            *(bits, hidden, bias, on, order, moved),
            *(np.float32(teaching.margin), 1, _MOST, np.float32(_BIAS_STEP), state),
        )
        if right == count and moved == 0:
            break
    return bits.astype(np.float32) * 2 - 1, bias
