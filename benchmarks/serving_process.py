"""A server of masks in a process of its own, for `bench_serving.py`; prints where it answers and ends with its input.

    python -m benchmarks.serving_process lenet|resnet BANK served|decoded MIB

`served` is the library's. `decoded` has the same web application and threads, but decodes the mask of each request and
runs the request by itself: what a server does that keeps no masks and mixes none in a batch.
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from supsup_models import MaskedModel, MaskedNetwork, convert, resnet_18_20
from supsup_models.runs import Answer
from supsup_models.serving import Engine, Limits, serve_http


def network(name: str) -> MaskedModel:
    """LeNet-300-100 with 100 outputs, or ResNet-18-20 with edge-popup masks that keep 0.3 of the weights."""
    if name == "lenet":
        return MaskedNetwork("lenet-300-100", inputs=784, outputs=100, classes=10, seed=0)
    return convert(resnet_18_20(5), mask="edge-popup", density=0.3, sparsity="er", seed=0, image_shape=(3, 32, 32))


class DecodeAndRun(Engine):
    """Each request by itself: its masks are decoded, and the images of each run together."""

    def _run_named(self, jobs):  # type: ignore[no-untyped-def]
        model, source, results = self.served.model, self.served.source, []
        for job in jobs:
            if not hasattr(job, "tasks"):
                results.append(job.call())
                continue
            found: dict[int, Answer] = {}
            images = self._checked([job])
            for name in dict.fromkeys(job.tasks):
                rows = [row for row, task in enumerate(job.tasks) if task == name]
                extras = source.extras(name) if model.initial_statistics() else None
                with torch.no_grad():
                    logits = model.run_with(images[rows], model.masked_weights(source[name]), extras)
                sure, labels = torch.softmax(logits, 1)[:, : model.classes].max(1)
                found |= {r: Answer(name, *each) for r, *each in zip(rows, labels.tolist(), sure.tolist(), strict=True)}
            results.append(tuple(found[row] for row in range(len(job.tasks))))
        return results


def logits_of(model: MaskedModel, image: Tensor, mask, extras) -> Tensor:  # type: ignore[no-untyped-def]
    """Those of one image under one mask, `(1, outputs)`."""
    with torch.no_grad():
        return model.run_with(image, model.masked_weights(mask), extras)


def main() -> None:
    """Serve until the input ends."""
    name, bank, kind, mib = sys.argv[1:]
    sys.setswitchinterval(0.0005)
    made = {"served": Engine, "decoded": DecodeAndRun}[kind]
    engine = made(bank, model=network(name), limits=Limits(memory=int(mib) << 20, answer_seconds=120))
    with serve_http(engine, port=0) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
