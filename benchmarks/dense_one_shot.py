"""One-shot inference with all masks as floats: what packed inference is measured against and checked by."""

import torch
from torch import Tensor

from maskstore import MaskMatrix
from supsup_models import MaskedNetwork


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
