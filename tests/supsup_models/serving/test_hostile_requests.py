"""Requests that mean harm get a named status of 400 to 499, and others' requests do not feel them."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

from supsup_models.serving import Client, Engine, Limits, serve_http
from tests.helpers.servers import IMAGES, INPUTS, expected, mask_bank, post, raw_answer

pytestmark = pytest.mark.filterwarnings("ignore::supsup_models.errors.ImageValueWarning")  # a line of its log
JSON, NPY = "application/json", "application/x-npy"


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return mask_bank(tmp_path_factory.mktemp("hostile") / "masks.bank", 4)


@pytest.fixture(scope="module")
def server(bank):
    limits = Limits(head_seconds=1.5, body_seconds=1.5, body=1 << 20, json=1 << 18, images=64)
    with serve_http(Engine(bank, limits=limits), port=0) as running:
        yield running


def npy(array: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def body(images: object, **others: object) -> bytes:
    return json.dumps({"images": images, **others}).encode()


def header_of(text: str) -> bytes:
    """An .npy file with this header and no data."""
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


ROW = [0.5] * INPUTS
NAMES = ("../../etc/passwd", "..", "/", "", "\x00", "a" * 5000, "%2e%2e", "task-0/../task-1", "task-0\n", "täsk", "💥")
REQUESTS = {
    "no JSON": post("/predict", b"{", JSON),
    "a list": post("/predict", b"[]", JSON),
    "deep": post("/predict", b'{"images":' + b"[" * 90_000 + b"]" * 90_000 + b"}", JSON),
    "no images": post("/predict", b"{}", JSON),
    "empty images": post("/predict", body([]), JSON),
    "ragged": post("/predict", body([ROW, ROW[:-1]], task="task-0"), JSON),
    "texts": post("/predict", body([["1"] * INPUTS], task="task-0"), JSON),
    "null": post("/predict", body([[None] * INPUTS], task="task-0"), JSON),
    "objects": post("/predict", body([[{}] * INPUTS], task="task-0"), JSON),
    "NaN": post("/predict", body([[float("nan")] * INPUTS], task="task-0"), JSON),
    "infinity": post("/predict", body([[1e300] * INPUTS], task="task-0"), JSON),
    "huge values": post("/predict", body([[3e38] * INPUTS], task="task-0"), JSON),
    "narrow": post("/predict", body([ROW[:-1]], task="task-0"), JSON),
    "flat": post("/predict", body(ROW, task="task-0"), JSON),
    "too many images": post("/predict", npy(np.zeros((65, INPUTS), "f4")), NPY),
    "too many bytes": post("/predict", npy(np.zeros((64, 1 << 13), "f4")), NPY),
    "too long JSON": post("/predict", body([ROW] * 1000), JSON),
    "a wrong length": post("/predict?task=task-0", npy(IMAGES[:1])[:-3], NPY),
    "more than said": post("/predict?task=task-0", npy(IMAGES[:1]) + b"more", NPY),
    "Python objects": post("/predict", header_of("{'descr': '|O', 'fortran_order': False, 'shape': (1, 64)}"), NPY),
    "a huge shape": post("/predict", header_of("{'descr': '<f4', 'fortran_order': False, 'shape': (9**9, 64)}"), NPY),
    "a shape of a petabyte": post(
        "/predict", header_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 64)}"), NPY
    ),
    "a negative shape": post("/predict", header_of("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64)}"), NPY),
    "code": post("/predict", header_of("__import__('os').abort()"), NPY),
    "complex": post("/predict", npy(np.zeros((1, INPUTS), "c8")), NPY),
    "integers": post("/predict", npy(np.zeros((1, INPUTS), "i8")), NPY),
    "raw pixels for a bank": post("/predict?task=task-0", npy(np.zeros((1, INPUTS), "u1")), NPY),
    "no dimension": post("/predict?task=task-0", npy(np.float32(1)), NPY),
    "no such form of pixels": post("/predict?task=task-0&pixels=x", npy(IMAGES[:1]), NPY),
    "task and tasks": post("/predict", body([ROW], task="task-0", tasks=["task-0"]), JSON),
    "too few tasks": post("/predict", body([ROW, ROW], tasks=["task-0"]), JSON),
    "a number as task": post("/predict", body([ROW], task=3), JSON),
    "a field too many": post("/predict", body([ROW], task="task-0", path="/etc/passwd"), JSON),
    "no type": post("/predict", body([ROW]), ""),
    "a form": post("/predict", b"images=1", "application/x-www-form-urlencoded"),
    "text that a page could send": post("/predict", body([ROW]), "text/plain"),
    "pickle": post("/predict", b"\x80\x04cos\nsystem\n", "application/python-pickle"),
    "a foreign host": post("/predict", body([ROW]), JSON, Host="evil.example:8000"),
    "a negative length": post("/predict", body([ROW]), JSON, Content_Length="-1"),
    "a length that is none": post("/predict", body([ROW]), JSON, Content_Length="ten"),
    "both lengths": post("/predict", b"0\r\n\r\n", JSON, Transfer_Encoding="chunked"),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "a method that is none": b"BREW /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a wrong method": b"DELETE /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET /tasks HTTP/1.1\r\nHost: evil\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "two tokens": b"GET /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: a\r\nAuthorization: b\r\n"
    b"Connection: close\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": b"CONNECT evil:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "all of the server": b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "no host": b"GET /tasks HTTP/1.0\r\n\r\n",
    "a listing in HTTP/1.0": b"GET /tasks HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n",
    "a slash too many": b"GET /tasks/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "requests ahead": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1000,
    "a name that is no text": post("/predict?task=task-%ff", npy(IMAGES[:1]), NPY),
    "a path up": b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "an encoded path up": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "a huge head": b"GET /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n",
    "many headers": b"GET /tasks HTTP/1.1\r\n" + b"X: y\r\n" * 60_000 + b"\r\n",
    **{f"load {name[:20]!r}": post("/tasks/load", json.dumps({"task": name}).encode(), JSON) for name in NAMES},
    **{f"ask {name[:20]!r}": post("/predict", body([ROW], task=name), JSON) for name in NAMES},
    **{f"query {name[:9]!r}": post(f"/predict?task={quote(name)}", npy(IMAGES[:1]), NPY) for name in NAMES if name},
}


@pytest.mark.parametrize("name", list(REQUESTS))
def test_a_hostile_request_is_named(server, name):
    status, content = raw_answer(server.url, REQUESTS[name])
    assert 400 <= status < 500, content
    assert content["detail"]
    assert "Traceback" not in str(content)


def test_slow_senders_are_cut_off(server):
    parts = urlsplit(server.url)
    for head in (b"POST /predict HT", post("/predict", b"x" * 1000, JSON)[:-900], b""):
        start = time.monotonic()
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
            connection.sendall(head)
            received = connection.recv(4096)
        assert time.monotonic() - start < 15
        assert received.split()[1] in (b"400", b"408")


def test_requests_in_a_row_are_answered_in_a_row(server, bank):
    """Many requests before the first answer, as pipelining allows, each under a mask of its own."""
    tasks = [f"task-{number % 4}" for number in range(40)]
    asked = [post(f"/predict?task={task}", npy(IMAGES[n : n + 1]), NPY) for n, task in enumerate(tasks)]
    kept = [each.replace(b"Connection: close\r\n", b"") for each in asked[:-1]]
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(b"".join(kept) + asked[-1])
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    bodies = [each.partition(b"\r\n\r\n")[2] for each in received.split(b"HTTP/1.1 200 OK")[1:]]
    answers = [json.loads(each)["answers"][0] for each in bodies]
    assert [(answer["task"], answer["label"]) for answer in answers] == expected(bank, IMAGES, tasks)


def test_who_asks_for_a_websocket_gets_an_ordinary_answer(server):
    upgrade = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n" + upgrade + b"\r\n\x81\x05hello"
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_who_does_not_take_answers_is_cut_off(bank):
    with serve_http(Engine(bank, limits=Limits(answer_seconds=0.5)), port=0) as running:
        listening = running._server.servers[0].sockets[0]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # else the system takes megabytes
        parts = urlsplit(running.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=0.2) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            connection.sendall(request * 50)
            assert is_cut_off(connection, request)
        assert len(Client(running.url).tasks()) == 4


def is_cut_off(connection: socket.socket, sent: bytes, seconds: float = 30.0) -> bool:
    """Whether the other side ends a connection on which it is sent a little from time to time, and nothing is read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.2)
        try:
            connection.send(sent)
        except TimeoutError:  # it reads no more while its answers are not taken
            continue
        except OSError:
            return True
    return False


def test_others_are_answered_meanwhile(server, bank):
    tasks = [f"task-{number % 4}" for number in range(40)]
    wanted = expected(bank, IMAGES, tasks)
    client = Client(server.url)

    def harm(number: int) -> int:
        sent = list(REQUESTS.values())
        return raw_answer(server.url, sent[number % len(sent)])[0]

    def ask(number: int) -> bool:
        first = number % 38
        some = slice(first, first + 2)
        return [(a.task, a.label) for a in client.predict(IMAGES[some], tasks[some])] == wanted[some]

    with ThreadPoolExecutor(6) as pool:
        harmed, asked = [pool.submit(harm, n) for n in range(150)], [pool.submit(ask, n) for n in range(150)]
        assert all(400 <= each.result() < 500 for each in harmed)
        assert all(each.result() for each in asked)
