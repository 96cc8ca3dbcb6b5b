"""What a mask costs a converted network: applying it, running under it, and running the exported module.

`pytest benchmarks/ -k convert -s`. Times of this machine are printed, ratios are asserted.
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch

from supsup_models import convert, resnet_18_20


def seconds(work: Callable[[], object], repeats: int = 9) -> float:
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


@torch.no_grad()
def test_convert_mask_switch_costs_less_than_a_small_batch():
    model = convert(resnet_18_20(5), mask="edge-popup", density=0.32, sparsity="er", seed=0, image_shape=(3, 32, 32))
    mask, extras = model.mask_of(model.initial_scores(0)), model.initial_statistics()
    dense = model.export(mask, extras)
    images = torch.zeros(16, 3, 32, 32)

    def switch() -> None:
        with model.apply_mask(mask, extras):
            pass

    with model.apply_mask(mask, extras):
        under = seconds(lambda: model(images))
    plain, switching = seconds(lambda: dense(images)), seconds(switch)
    print(
        f"\nResNet-18-20: switch {1e3 * switching:.1f} ms, 16 images {1e3 * under:.0f} ms, exported {1e3 * plain:.0f}"
    )
    assert switching < under
    assert under < 1.5 * plain + 0.005
