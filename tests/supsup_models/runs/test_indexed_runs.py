"""A run whose masks are asked from the index beside its bank."""

from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank, write_index
from maskstore.errors import StaleIndexError
from supsup_models import infer_images, load_run, open_stream, run_config, train_run
from supsup_models.runs.record import bank_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_run(run_config("permuted-digits", tasks=18, outputs=40, batches=5, recipe="dense"), folder)
    return folder


def test_answers_from_an_index_are_those_from_the_bank(trained: Path) -> None:
    images = open_stream("permuted-digits", tasks=2)[1].test.images(slice(0, 8)).numpy()
    found = []
    for method, error in (("one-shot", 0.0), ("one-shot", 1e-4), ("exhaustive", 0.0)):
        plain = infer_images(trained, images, method=method, error=error)
        with MaskBank.open(bank_path(trained)) as bank:
            path = write_index(bank)
        assert not load_run(trained).matrix.interleaved.blocks.flags.writeable
        found.append((plain, infer_images(trained, images, method=method, error=error)))
        path.unlink()
    for plain, indexed in found:
        assert [one.task for one in plain.answers] == [one.task for one in indexed.answers]
        confidences = [[one.confidence for one in each.answers] for each in (plain, indexed)]
        np.testing.assert_allclose(*confidences, rtol=1e-5)


def test_a_run_beside_a_stale_index_says_so(trained: Path) -> None:
    with MaskBank.open(bank_path(trained), "a") as bank:
        path, mask = write_index(bank), bank["task-0"]
        bank.put("task-0", mask, overwrite=True, codec="raw")
    with pytest.raises(StaleIndexError, match="`write_index` writes it anew"):
        load_run(trained)
    path.unlink()
    assert len(load_run(trained).matrix) == 18
