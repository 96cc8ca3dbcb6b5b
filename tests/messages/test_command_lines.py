"""What both command lines say of wrong input: one line, options for arguments, the exit code of its kind."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from maskstore import MaskBank, MaskSpec
from maskstore.cli.app import app as maskstore_app
from maskstore.cli.app import run_command as maskstore
from supsup_models.cli.app import app as supsup_app
from supsup_models.cli.app import run_command as supsup
from tests.helpers.messages import check_message

OPTIONS = {
    program: {
        name: {option for item in command.params for option in item.opts}
        for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
    }
    for program, app in (("maskstore", maskstore_app), ("supsup", supsup_app))
}
PROGRAMS: dict[str, Callable[[list[str]], int]] = {"maskstore": maskstore, "supsup": supsup}
TRAIN = "supsup train --stream permuted-digits --tasks 1 --batches 1 --out {}/run"

LINES = [
    (1, "maskstore stats {}/none.bank"),
    (1, "maskstore stats {}"),
    (1, "maskstore verify {}/text.bank"),
    (1, "maskstore verify {}/damaged.bank"),
    (1, "maskstore ls {}/pipe"),
    (2, "maskstore ls {}/a.bank --csv --json"),
    (1, "maskstore get {}/a.bank task -o {}/m.npz"),
    (1, "maskstore get {}/a.bank task-0 --layer fc2 -o {}/m.npz"),
    (1, "maskstore get {}/a.bank task-0 -o {}/ok.npz"),
    (2, "maskstore get {}/a.bank task-0 -o {}/a.bank"),
    (1, "maskstore put {}/a.bank task-0 {}/ok.npz"),
    (1, "maskstore put {}/a.bank t {}/text.npz"),
    (1, "maskstore put {}/a.bank t {}/empty.npz"),
    (1, "maskstore put {}/a.bank t {}/none.npz"),
    (1, "maskstore put {}/a.bank t {}/pipe"),
    (2, "maskstore put {}/a.bank t {}/ok.npz --codec zip"),
    (2, "maskstore put {}/a.bank t {}/ok.npz --prior []"),
    (2, "maskstore put {}/a.bank t {}/ok.npz --meta {"),
    (2, "maskstore put {}/new.bank t {}/ok.npz"),
    (1, "maskstore rm {}/a.bank task-9"),
    (2, "maskstore compact {}/a.bank --level best"),
    (1, "maskstore compact {}/damaged.bank"),
    (1, "maskstore import {}/text.npz {}/new.bank"),
    (1, "maskstore import {}/text.pt {}/new.bank"),
    (1, "maskstore import {}/text.safetensors {}/new.bank"),
    (1, "maskstore import {}/none.npz {}/new.bank"),
    (2, "maskstore import {}/ok.npz {}/new.bank --format zip"),
    (2, "maskstore import {}/ok.npz {}/new.bank --shapes {}/text.bank"),
    (2, "maskstore export {}/a.bank {}/out.zip"),
    (1, "maskstore export {}/a.bank {}/ok.npz"),
    (1, "maskstore export {}/none.bank {}/out.npz"),
    (1, "maskstore export {}/a.bank nowhere://out.shard"),
    (1, "maskstore merge {}/a.bank {}/none.bank {}/new.bank"),
    (2, "maskstore merge {}/a.bank {}/a.bank"),
    (2, "maskstore merge {}/a.bank {}/new.bank --rename a"),
    (1, "maskstore diff {}/a.bank {}/text.bank"),
    (2, "maskstore diff {}/a.bank"),
    (2, "supsup train --stream permuted-digit --out {}/run"),
    (2, "supsup train --stream split-digits --tasks 99 --out {}/run"),
    (2, f"{TRAIN} --recipe fast"),
    (2, f"{TRAIN} --model lenet"),
    (2, f"{TRAIN} --model hopsupsup"),
    (2, f"{TRAIN} --scenario NN"),
    (2, f"{TRAIN} --density 3"),
    (2, f"{TRAIN} --target-bits 0.1 --recipe dense"),
    (2, f"{TRAIN} --device cuda:77"),
    (1, "supsup train --stream permuted-mnist --data {}/nothing --out {}/run"),
    (1, "supsup train --stream split-cifar-100 --data {}/nothing --out {}/run"),
    (1, "supsup train --stream split-imagenet --data {}/nothing --out {}/run"),
    (1, "supsup train --stream permuted-digits --tasks 1 --out {}/ok.npz"),
    (1, "supsup eval {}"),
    (1, "supsup infer {} {}/ok.npz"),
    (1, "supsup report {}"),
    (1, "supsup recover {}"),
    (2, "supsup recover --stream split-digits --width 8 --recipe best"),
    (1, "supsup recover --data {}/nothing"),
    (2, "supsup recover --stream split-digits --plot {}/plot.doc"),
    (2, "supsup reproduce permuted-lenet"),
    (2, "supsup reproduce"),
    (1, "supsup reproduce split-mnist-gnu --data {}/nothing --out {}/out"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    with MaskBank.create(folder / "a.bank", MaskSpec({"fc1": (6, 4)})) as bank:
        bank.put("task-0", {"fc1": np.arange(24).reshape(6, 4) % 3 == 0})
    damaged = bytearray((folder / "a.bank").read_bytes())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    (folder / "damaged.bank").write_bytes(damaged)
    np.savez(folder / "ok.npz", fc1=np.zeros((6, 4), dtype=bool))
    for name in ("text.bank", "text.npz", "text.pt", "text.safetensors"):
        (folder / name).write_text("hello")
    (folder / "empty.npz").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(("code", "line"), LINES, ids=lambda value: str(value).replace("{}/", ""))
def test_wrong_input_is_one_line(code: int, line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = line.split()
    found = PROGRAMS[program]([argument.replace("{}", str(folder)) for argument in arguments])
    printed = capsys.readouterr()
    assert (found, printed.out) == (code, ""), printed.err
    assert printed.err.startswith(f"{program}: ")
    check_message(printed.err.removesuffix("\n").removeprefix(f"{program}: "), command=True)
    own = re.sub(r"`[^`]*`", "", printed.err)  # other commands may have other options
    assert set(re.findall(r"(?<![\w-])--[a-z-]+", own)) <= OPTIONS[program][arguments[0]], printed.err
