"""One-shot inference with all masks as floats: what packed inference is measured against and checked by."""

import numpy as np
import torch
from torch import Tensor

from maskstore import Mask, MaskMatrix, MaskSpec
from supsup_models import MaskedNetwork


def random_matrix(spec: MaskSpec, k: int) -> MaskMatrix:
    """k masks of fair bits; time and memory of inference do not depend on what the bits are."""
    rng = np.random.default_rng(0)
    matrix = MaskMatrix(spec, room=k)
    for i in range(k):
        words = rng.integers(0, 2**64, size=spec.words, dtype=np.uint64)
        for layer in spec:
            if layer.size % 64:
                words[layer.packed.stop - 1] &= np.uint64((1 << layer.size % 64) - 1)
        matrix.append(f"task-{i}", Mask(spec, words))
    return matrix


def dense_stack(matrix: MaskMatrix) -> Tensor:
    """All masks as one float32 tensor `(k, spec.bits)`."""
    stack = torch.empty(len(matrix), matrix.spec.bits)
    for row in range(len(matrix)):
        stack[row] = torch.from_numpy(matrix[row].flat())
    return stack


def dense_one_shot(model: MaskedNetwork, stack: Tensor, images: Tensor, *, product: bool = False) -> Tensor:
    """-dH/dalpha at alpha = 1/k by autograd, `(k,)`.

    The weighted sum of masks is a matrix-vector product, torch's best dense form, or with `product` what the published
    code computes: every mask times its weight, then the sum.
    """
    alpha = torch.full((len(stack),), 1 / len(stack), requires_grad=True)
    mixed = (alpha[:, None] * stack).sum(0) if product else alpha @ stack
    log_p = torch.log_softmax(model.run_with(images, model.weights * mixed), dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1).mean()
    return -torch.autograd.grad(entropy, alpha)[0]
