"""Data sets are read from regular files alone: what is none is named, and nothing waits for it."""

import os
from pathlib import Path

import pytest
import torch

from supsup_models.data.sets.cifar import _content
from supsup_models.data.sets.idx import read_idx
from supsup_models.data.sets.imagenet import ImageFiles
from supsup_models.errors import SupSupError
from supsup_models.report.place import is_page


@pytest.fixture(params=["a named pipe", "a device", "a folder"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "x.JPEG"
    if request.param == "a named pipe":
        os.mkfifo(path)
    elif request.param == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path, request.param


def test_what_is_no_file_is_named(irregular: tuple[Path, str]) -> None:
    path, kind = irregular
    files = ImageFiles([path], torch.zeros(1, dtype=torch.int64))
    for read in (read_idx, _content, lambda _: files.images(slice(0, 1))):
        with pytest.raises(SupSupError, match=f"{path}: .*expected .*found.* {kind}"):
            read(path)
    assert not is_page(path, "supsup report")
