"""A compiled kernel is loaded from the disk as long as all sources it is made of are the same, and no longer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import maskstore

DOT = """
import numpy as np
from maskstore.kernels import load
from maskstore.kernels.ir import masked_adds
tail, layers = np.full((1, 2), 7, dtype=np.uint64), np.array([(0, 0, 128)])
found = load().dot(np.zeros((0, 4, 16), dtype=np.uint32), tail, np.ones(128, dtype=np.float32), layers)
stats = masked_adds.dot_rows.stats
print(found[0], sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture
def dot(tmp_path):
    """A function that computes a dot product over 6 set bits in a fresh process, by a copy of the package."""
    shutil.copytree(
        Path(maskstore.__file__).parent, tmp_path / "maskstore", ignore=shutil.ignore_patterns("__pycache__")
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run() -> tuple[float, int, int]:
        """The product, kernels found in the cache, kernels compiled."""
        command = [sys.executable, "-c", DOT]
        found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert found.stderr == ""
        product, hits, misses = found.stdout.split()
        return float(product), int(hits), int(misses)

    return run


@pytest.mark.slow
def test_a_change_of_an_ir_source_compiles_anew(dot, tmp_path):
    assert dot() == (6.0, 0, 1)
    assert dot() == (6.0, 1, 0)
    vectors = tmp_path / "maskstore/kernels/ir/vectors.py"
    source = vectors.read_text()
    assert source.count("[0.0] * LANES") == 1
    vectors.write_text(source.replace("[0.0] * LANES", "[1.0] * LANES"))  # what is added for a bit that is not set
    product, *compiled = dot()
    assert (product > 128, compiled) == (True, [0, 1])
    vectors.write_text(source)
    assert dot() == (6.0, 0, 1)
