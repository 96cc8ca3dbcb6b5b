"""What all tests share: which ones this machine can run."""

import os

# Before torch is imported: its threads otherwise spin while they wait, which starves small steps on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import tests.helpers.profiles  # noqa: F401 (it sets Hypothesis' profile)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, with the reason, what needs data or a device that is not there."""
    if not os.environ.get("MASKSTORE_DATA"):
        skip = pytest.mark.skip(reason="needs the MNIST files: set MASKSTORE_DATA to the folder that holds them")
        for item in items:
            if item.get_closest_marker("mnist"):
                item.add_marker(skip)

    needing_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if needing_gpu:
        import torch  # only here: most test runs of the numpy level should not pay for it

        if not torch.cuda.is_available():
            for item in needing_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device: torch.cuda.is_available() is false"))
