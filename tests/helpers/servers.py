"""Servers of masks on loopback, and requests that no client would send."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from maskstore import MaskBank
from supsup_models import MaskedNetwork
from tests.helpers.commands import ROOT

INPUTS = 64
IMAGES = np.random.default_rng(0).standard_normal((40, INPUTS)).astype("f4")


def network(seed: int = 0) -> MaskedNetwork:
    """A small network, the same every time."""
    return MaskedNetwork("lenet-300-100", inputs=INPUTS, outputs=20, classes=10, seed=seed)


def mask_bank(path: Path, tasks: int, model: MaskedNetwork | None = None) -> Path:
    """A bank of untrained masks, `task-0` and so on."""
    model = network() if model is None else model
    with MaskBank.create(path, model.spec, meta=model.bank_meta()) as bank, bank.transaction():
        for number in range(tasks):
            bank.put(f"task-{number}", model.mask_of(model.initial_scores(number)), codec="raw")
    return path


def expected(bank: Path, images: np.ndarray, tasks: list[str]) -> list[tuple[str, int]]:
    """Task and label of each image, by a pass for each."""
    import torch

    model, found = network(), []
    with MaskBank.open(bank) as masks, torch.no_grad():
        for image, task in zip(images, tasks, strict=True):
            logits = model(torch.from_numpy(image[None]), masks[task])
            found.append((task, int(logits[0, : model.classes].argmax())))
    return found


def raw_answer(url: str, sent: bytes, *, seconds: float = 20.0) -> tuple[int, dict[str, Any]]:
    """Send bytes, and read the status and the JSON (or the text, as "detail") of the answer."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=seconds) as connection:
        connection.sendall(sent)
        received = b""
        while True:
            try:
                part = connection.recv(1 << 16)
            except ConnectionResetError:  # what is left of a body was not read
                break
            if not part:
                break
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        content = json.loads(body)
    except ValueError:
        content = {"detail": body.decode("latin-1")}
    return int(head.split()[1]), content


def post(path: str, body: bytes, kind: str, **headers: str) -> bytes:
    """A whole request that asks for the connection to be closed."""
    given = {"Host": "127.0.0.1", "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in {**given, **headers}.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@contextmanager
def served_in_a_process(
    *arguments: object, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`supsup serve` on a free port: the process, and where it answers. It is killed at the end."""
    command = [sys.executable, "-m", "supsup_models", "serve", *map(str, arguments), "--port", "0"]
    environment = {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "serving" in line, line
        yield process, line.split(" at ")[1].strip()
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
