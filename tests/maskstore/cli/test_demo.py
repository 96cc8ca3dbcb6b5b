"""`maskstore demo`: three prunings of a layer, stored, read back, and shown."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank, MaskSpec
from maskstore.cli.app import run_command
from maskstore.cli.demo import COLUMNS, PICTURE, ROWS, picture, pruned, weights_of_a_layer

NAMES = ("largest-tenth", "two-of-four", "half-of-each-row")


def test_the_masks_are_what_they_are_called() -> None:
    sizes = np.abs(weights_of_a_layer())
    masks = {name: mask for name, (_, mask) in pruned(sizes).items()}
    assert tuple(masks) == NAMES
    largest = masks["largest-tenth"]
    assert sizes[largest].min() >= sizes[~largest].max()
    assert largest.mean() == pytest.approx(0.1, abs=1e-5)
    fours = masks["two-of-four"].reshape(ROWS, COLUMNS // 4, 4)
    assert (fours.sum(axis=2) == 2).all()
    kept, dropped = np.where(fours, sizes.reshape(fours.shape), np.inf), np.where(fours, 0, sizes.reshape(fours.shape))
    assert (kept.min(axis=2) >= dropped.max(axis=2)).all()
    assert (masks["half-of-each-row"].sum(axis=1) == COLUMNS // 2).all()


def test_the_bank_holds_them_in_fewer_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tour.bank"
    assert run_command(["demo", "--out", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bank"] == str(path)
    assert told["file_bytes"] == path.stat().st_size
    assert told["parameters"] == ROWS * COLUMNS
    with MaskBank.open(path) as bank:
        for each, name in zip(told["masks"], NAMES, strict=True):
            mask = bank[name].dense()["layer"]
            assert each["name"] == name
            assert each["kept"] == pytest.approx(mask.mean())
            assert each["coded_bytes"] == bank.info(name).coded_bytes < 0.7 * each["packed_bytes"]


def test_a_second_tour_uses_the_bank_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tour.bank"
    assert run_command(["demo", "--out", str(path)]) == 0
    first = capsys.readouterr().out
    assert run_command(["demo", "--out", str(path)]) == 0
    assert capsys.readouterr().out == first
    assert all(name in first for name in NAMES)
    assert f"maskstore ls {path}" in first
    with MaskBank.open(path) as bank:
        assert tuple(bank) == NAMES


def test_another_bank_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.bank"
    with MaskBank.create(path, MaskSpec({"fc": (4, 4)})) as bank:
        bank.put("mine", {"fc": np.eye(4, dtype=bool)})
    assert run_command(["demo", "--out", str(path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with MaskBank.open(path) as bank:
        assert list(bank) == ["mine"]


def test_the_picture_is_darker_where_more_is_kept() -> None:
    mask = np.zeros((ROWS, COLUMNS), dtype=bool)
    mask[: ROWS // 2] = True
    lines = picture(mask)
    assert [len(line) for line in lines] == [PICTURE[1]] * PICTURE[0]
    assert len(set(lines[0])) == len(set(lines[-1])) == 1
    assert lines[0] != lines[-1] == " " * PICTURE[1]


def test_the_picture_is_plain_where_nothing_else_can_be_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("maskstore.cli.demo._can_print", lambda text: text.isascii())
    assert run_command(["demo", "--out", str(tmp_path / "tour.bank")]) == 0
    assert capsys.readouterr().out.isascii()
