"""Forward and backward pass of a perceptron (linear layers, ReLU between them): the compiled loops of `derivatives.py`.

Activations and deltas (the cost's derivatives by each layer's output) are kept transposed, neurons x images, so that
images fill the vectors whatever the layers' sizes. Layers are chained for a block of images at a time, whose
activations stay in the nearer caches; the gradient is taken for a strip of inputs at a time, by all neurons. Any cut
gives the same bits (`tile.py`).
"""

import numpy as np

from maskstore.kernels import LANES, compiled
from supsup_models.inference.compiled.stages import all_done, done, take
from supsup_models.inference.compiled.tile import (
    FEW_ROWS,
    GATE,
    KEEP,
    RELU,
    ROWS,
    SCALE,
    WIDTH,
    copy_vector,
    exponential_of_difference,
    tile,
    turn_square,
)

ENTROPY, SUPERFLUOUS = range(2)  # objectives
FORWARD, GRADIENT = range(2)  # stages
IMAGES = 32  # images whose activations go through all layers together
STEPS = 512  # images that a strip of the gradient is summed over at a time: 64 KiB of inputs


@compiled
def _product(
    scalars, at, row_stride, step_stride, rows,
    values, values_at, values_stride, steps, width,
    out, out_at, out_stride, other, finish, resume, watch,
):  # fmt: skip
    """out[r, v] = finish(sum over t of scalars[r, t] * values[t, v]) for r < rows, v < width, t < steps.

    All arrays are flat: row r and step t of the scalars are at `at + r * row_stride + t * step_stride`. `values` is
    read in whole vectors, `out` and `other` only where v < width. Only SCALE uses `watch`.
    """
    row = 0
    while row < rows:
        here = min(rows - row, ROWS)
        if here < ROWS:
            here = min(here, FEW_ROWS)
        left = at + row * row_stride
        for v in range(0, width, WIDTH):
            tile(
                scalars, left, row_stride, step_stride, here, values, values_at + v, values_stride, steps,
                out, out_at + row * out_stride + v, out_stride, other, finish, resume, min(width - v, WIDTH), watch,
            )  # fmt: skip
        row += here


@compiled
def _turn(source, at, stride, rows, columns, target, target_at, target_stride):
    """target[target_at + c * target_stride + r] = source[at + r * stride + c]; whole squares of 16 are written."""
    for r in range(0, rows, LANES):
        for c in range(0, columns, LANES):
            turn_square(
                source, at + r * stride + c, stride, min(LANES, rows - r), min(LANES, columns - c),
                target, target_at + c * target_stride + r, target_stride,
            )  # fmt: skip


@compiled
def _forward(images, sizes, weights, activations, stride, panel, first, last):
    """All layers' outputs, transposed, of images first <= b < last."""
    layers = sizes.size - 1
    for block in range(first, last, IMAGES):
        here = min(IMAGES, last - block)
        width = -(-here // LANES) * LANES
        _turn(images, block * sizes[0], sizes[0], here, sizes[0], panel, 0, IMAGES)
        weights_at, in_at, out_at = 0, 0, block
        for layer in range(layers):
            of, to = sizes[layer], sizes[layer + 1]
            finish = RELU if layer < layers - 1 else KEEP
            values, at, values_stride = (panel, 0, IMAGES) if layer == 0 else (activations, in_at, stride)
            _product(
                weights, weights_at, of, 1, to, values, at, values_stride, of, width,
                activations, out_at, stride, activations, finish, 0, panel,
            )  # fmt: skip
            weights_at += of * to
            in_at = out_at
            out_at += to * stride


@compiled
def _backward(sizes, weights, activations, deltas, stride, first, last):
    """The derivatives by all layers' outputs, transposed, of images first <= b < last, from those by the logits,
    which lie in place already.
    """
    layers = sizes.size - 1
    for block in range(first, last, IMAGES):
        here = min(IMAGES, last - block)
        width = -(-here // LANES) * LANES
        weights_at, at = weights.size, block + sizes[1:layers].sum() * stride
        for layer in range(layers - 1, 0, -1):
            of, to = sizes[layer], sizes[layer + 1]
            weights_at -= of * to
            _product(
                weights, weights_at, 1, of, of, deltas, at, stride, to, width,
                deltas, at - of * stride, stride, activations, GATE, 0, deltas,
            )  # fmt: skip
            at -= of * stride


@compiled(error_model="numpy")
def _derive(objective, real, count, logits_at, activations, outputs, stride, deltas, first, last):
    """The derivatives of the mean cost of `count` images by the logits z of images first <= b < last.

    With p = softmax(z), dH/d(log p_i) = -p_i (log p_i + 1) and d(log p_i)/dz_j = [i = j] - p_j, of whose product the
    ones cancel: dH/dz = -p (log p + H). G's is p at the superfluous outputs and 0 at the real ones, by definition.
    """
    scale = np.float32(1.0) / np.float32(count)
    for block in range(first, last, IMAGES):
        width = -(-min(IMAGES, last - block) // LANES) * LANES
        at = logits_at + block
        z, found = activations[at:], deltas[at:]
        top = np.full(width, -np.inf, dtype=np.float32)
        total, entropy = np.zeros(width, dtype=np.float32), np.zeros(width, dtype=np.float32)
        for o in range(outputs):
            for i in range(width):
                top[i] = max(top[i], z[o * stride + i])
        for o in range(outputs):
            for i in range(0, width, LANES):
                exponential_of_difference(z, o * stride + i, top, i, found, o * stride + i)
            for i in range(width):
                total[i] += found[o * stride + i]
        log_total = np.log(total)
        if objective == ENTROPY:
            for o in range(outputs):
                for i in range(width):
                    p = found[o * stride + i] / total[i]
                    entropy[i] -= p * (z[o * stride + i] - top[i] - log_total[i])
        for o in range(outputs):
            for i in range(width):
                p = found[o * stride + i] / total[i]
                if objective == ENTROPY:
                    log_p = z[o * stride + i] - top[i] - log_total[i]
                    found[o * stride + i] = -p * (log_p + entropy[i]) * scale
                else:
                    found[o * stride + i] = p * scale if o >= real else np.float32(0.0)


@compiled
def _gradient(images, sizes, frozen, activations, deltas, stride, count, panel, out, watch, layer, first, last):
    """out = the derivative by the mask's bits for inputs first <= i < last of a layer, summed over `count` images.

    One of the 16 values of `watch` becomes NaN where one of `out` is.
    """
    of, to = sizes[layer], sizes[layer + 1]
    weights_at = (sizes[:layer] * sizes[1 : layer + 1]).sum()
    delta_at = sizes[1 : layer + 1].sum() * stride
    input_at = delta_at - of * stride
    for strip in range(first, last, WIDTH):
        width = min(WIDTH, last - strip)
        for image in range(0, count, STEPS):
            steps = min(STEPS, count - image)
            if layer == 0:
                for step in range(steps):
                    at = (image + step) * of + strip
                    for v in range(0, width, LANES):
                        copy_vector(images, at + v, min(LANES, width - v), panel, step * WIDTH + v)
            else:
                _turn(activations, input_at + strip * stride + image, stride, width, steps, panel, 0, WIDTH)
            finish = SCALE if image + steps == count else KEEP
            _product(
                deltas, delta_at + image, stride, 1, to, panel, 0, WIDTH, steps, width,
                out, weights_at + strip, of, frozen, finish, int(image > 0), watch,
            )  # fmt: skip


@compiled
def work(
    board, pieces, patience, objective, real, images, sizes, weights, frozen, batches, strips,
    activations, deltas, stride, image_panels, strip_panels, watch, out,
):  # fmt: skip
    """Help with the stages until all of the last one is done; False if patience ran out.

    Called again it goes on where the work is.
    """
    count, layers = images.shape[0], sizes.size - 1
    flat, at = images.reshape(-1), stride * sizes[1:layers].sum()
    for stage in range(FORWARD, GRADIENT + 1):
        if stage > 0 and not all_done(board, stage - 1, pieces[stage - 1], patience):
            return False
        while True:
            piece = take(board, stage)
            if piece >= pieces[stage]:
                break
            if stage == FORWARD:
                first, last = batches[piece]
                _forward(flat, sizes, weights, activations, stride, image_panels[piece], first, last)
                _derive(objective, real, count, at, activations, sizes[layers], stride, deltas, first, last)
                _backward(sizes, weights, activations, deltas, stride, first, last)
            else:
                layer, first, last = strips[piece]
                _gradient(
                    flat, sizes, frozen, activations, deltas, stride, count, strip_panels[piece], out, watch[piece],
                    layer, first, last,
                )  # fmt: skip
            done(board, stage)
    return all_done(board, GRADIENT, pieces[GRADIENT], patience)
