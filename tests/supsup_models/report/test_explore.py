"""`supsup explore`: what the page holds is what the run's masks say, and nothing in a name gets out of its place."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskstore.bank import account
from supsup_models import infer_each
from supsup_models.cli.app import run_command
from supsup_models.errors import InferenceError, ReportError
from supsup_models.inference import Inference
from supsup_models.report.explore import Explored, explored, explorer_page, gather, make_explorer
from supsup_models.runs import LoadedRun, bank_path, load_run
from tests.helpers.runs import HOSTILE, trained_run

DATA = re.compile('<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def run(trained: Path) -> LoadedRun:
    return load_run(trained)


@pytest.fixture(scope="module")
def shown(run: LoadedRun) -> Explored:
    return explored(run, run.stream(), Inference(), 12)


def data_of(page: str) -> dict:
    (found,) = DATA.findall(page)
    return json.loads(found)


def cells(picture: dict) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(picture["bytes"]), np.uint8)
    return values.reshape(picture["rows"], picture["columns"], -1).squeeze(2)


def test_scores_and_answers_are_those_of_the_library(run: LoadedRun, shown: Explored) -> None:
    stream = run.stream()
    chosen = gather.sampled(stream[:], 1, 12, run.record.config.seed)
    images = torch.cat([task.test.images(torch.from_numpy(rows)) for task, rows in zip(stream, chosen, strict=True)])
    assert [image.task for image in shown.images] == [row for row in range(3) for _ in range(4)]
    expected = infer_each(run.model, run.matrix, images).scores
    np.testing.assert_allclose(np.stack([image.scores for image in shown.images]), expected, rtol=1e-4, atol=1e-6)
    for image, pixels in zip(shown.images, images, strict=True):
        assert sorted(image.tried) == [0, 1, 2]
        assert list(image.scores[list(image.tried)]) == sorted(image.scores, reverse=True)
        for place, row in enumerate(image.tried):
            logits = run.model(pixels[None], run.matrix[row]).double()
            entropy = torch.special.entr(logits.softmax(1)).sum()
            assert image.entropies[place] == pytest.approx(float(entropy), abs=1e-4)
            labels = logits[0, : run.model.classes].softmax(0)
            np.testing.assert_allclose(image.probabilities[place], labels, atol=1e-5)
    right = infer_each(run.model, run.matrix, images).tasks == np.repeat([0, 1, 2], 4)
    assert shown.found == pytest.approx(right.mean())


def test_images_and_masks_are_shown_as_they_are(run: LoadedRun, shown: Explored) -> None:
    for image in shown.images:
        assert image.pixels.shape == (8, 8)
        assert (image.pixels.min(), image.pixels.max()) == (0, 255)
    assert len(shown.pictures) == 3
    for row, mask in enumerate(shown.pictures):
        for picture, kept, layer in zip(mask.layers, mask.kept, run.matrix[row].dense().values(), strict=True):
            assert kept == pytest.approx(layer.mean())
            assert picture.shape == tuple(min(size, gather.PICTURE) for size in layer.shape)
            if layer.shape[0] <= gather.PICTURE and layer.shape[1] <= gather.PICTURE:
                assert np.array_equal(picture > 0, layer)


def test_bits_add_up_to_the_banks(run: LoadedRun, shown: Explored) -> None:
    from maskstore import MaskBank

    with MaskBank.open(bank_path(run.folder)) as bank:
        found = account(bank)
        coded = sum(info.coded_bytes for info in bank.infos())
    assert sum(shown.bits) * run.matrix.spec.bits / 8 == pytest.approx(coded)
    assert found.payload_bytes <= coded <= found.payload_bytes + found.side_bytes
    assert all(0 < accuracy <= 1 for accuracy in shown.accuracies)


def test_of_many_masks_only_the_best_are_tried(run: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "ALL_MASKS", 2)
    monkeypatch.setattr(gather, "TRIED", 1)
    found = explored(run, run.stream(), Inference(), 12)
    for image in found.images:
        assert set(image.tried) == {int(image.scores.argmax()), image.task}
        assert len(image.entropies) == len(image.probabilities) == len(image.tried)


def test_a_mask_of_many_weights_becomes_a_small_picture() -> None:
    layer = np.zeros((1000, 7), dtype=bool)
    layer[:500] = True
    picture = gather._shrunk(layer)
    assert picture.shape == (gather.PICTURE, 7)
    assert picture[0, 0] == 1
    assert picture[-1, 0] == 0
    assert picture.mean() == pytest.approx(0.5, abs=0.01)


def test_the_page_holds_the_data_and_one_script(shown: Explored) -> None:
    page = explorer_page(shown)
    assert page == explorer_page(shown)
    data = data_of(page)
    assert data["names"] == list(shown.names)
    for image, told in zip(shown.images, data["images"], strict=True):
        np.testing.assert_array_equal(cells(told["pixels"]), image.pixels)
        np.testing.assert_allclose(told["scores"], image.scores, rtol=1e-3)
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("<script") == 2


def test_names_stay_text(shown: Explored) -> None:
    layers = tuple((name, shape) for name, (_, shape) in zip(HOSTILE, shown.layers, strict=False))
    names = (*HOSTILE[:2], "</script><script>alert(1)</script>")
    page = explorer_page(replace(shown, names=names, layers=layers, title=HOSTILE[0]))
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "alert(1)</" not in page
    assert len(data_of(page)["names"]) == 3


def test_numbers_that_are_none_are_null(shown: Explored) -> None:
    broken = replace(shown.images[0], scores=np.array([np.nan, np.inf, 1], np.float32))
    data = data_of(explorer_page(replace(shown, images=(broken,))))
    assert data["images"][0]["scores"] == [None, None, 1.0]


def test_runs_of_other_kinds(trained_without_identity: Path, tmp_path: Path) -> None:
    made = make_explorer(trained_without_identity, tmp_path / "page.html", images=6)
    assert made.shown.found is None
    assert {image.task for image in made.shown.images} == {-1}
    converted = trained_run(tmp_path / "net", "--model", "resnet-18-20", "--density", "0.3", "--batches", "2")
    made = make_explorer(converted, images=3)
    assert made.path == converted / "explore.html"
    assert all(picture.ndim == 2 for mask in made.shown.pictures for picture in mask.layers)


def test_the_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    words = ["explore", str(trained), "-o", str(out), "--images", "6"]
    assert run_command([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(out)
    assert (told["masks"], told["images"], told["pictures"]) == (3, 6, 3)
    assert run_command(words) == 0  # an earlier page is replaced
    assert capsys.readouterr().out.startswith(f"{out}: 3 masks, 6 images")
    out.write_text("my notes")
    assert run_command(words) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "my notes"


def test_what_cannot_be_shown_is_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="expected 1 to 400 to show, found 0"):
        make_explorer(trained, tmp_path / "page.html", images=0)
    assert not (tmp_path / "page.html").exists()
    with pytest.raises(ReportError, match=r"another file|one of them"):
        make_explorer(trained, bank_path(trained))
