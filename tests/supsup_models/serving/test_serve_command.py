"""`supsup serve` as a program: killed beside a writer, ended gently, refused in one line; its page in a browser."""

import signal
import threading
import time

import pytest

from maskstore import MaskBank
from supsup_models.cli.app import run_command
from supsup_models.serving import Client, Engine, serve_http
from tests.helpers import browser
from tests.helpers.commands import error_of
from tests.helpers.servers import IMAGES, expected, mask_bank, network, served_in_a_process

pytestmark = pytest.mark.slow


def test_a_killed_server_comes_back_with_all_that_a_writer_has_added(tmp_path):
    model, path = network(), mask_bank(tmp_path / "m.bank", 3)
    added: list[str] = []
    stop = threading.Event()

    def write() -> None:
        with MaskBank.open(path, "a") as bank:
            for number in range(10_000):
                bank.put(f"new-{number}", model.mask_of(model.initial_scores(number)), codec="raw")
                added.append(f"new-{number}")
                if stop.wait(0.02):
                    return

    writer = threading.Thread(target=write)
    with served_in_a_process(path) as (process, url):
        writer.start()
        for _ in range(5):
            Client(url).predict(IMAGES[:4], "task-1")
        process.send_signal(signal.SIGKILL)
        process.wait()
    stop.set()
    writer.join()
    with MaskBank.open(path) as bank:
        assert bank.verify() == 3 + len(added)
    with served_in_a_process(path) as (_, url), Client(url) as client:
        names = {each.task for each in client.tasks()}
        assert names == {"task-0", "task-1", "task-2", *added}
        found = client.predict(IMAGES[:4], added[-1])
        assert [(a.task, a.label) for a in found] == expected(path, IMAGES[:4], added[-1:] * 4)


def test_sigterm_ends_a_server_after_its_answers(tmp_path):
    with served_in_a_process(mask_bank(tmp_path / "m.bank", 2), "--memory", 8) as (process, url):
        assert len(Client(url).predict(IMAGES, "task-0")) == len(IMAGES)
        start = time.monotonic()
        process.terminate()
        assert process.wait(20) == 0
        assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.bank",), "none.bank"),
        (("m.bank", "--host", "0.0.0.0"), "expected a token"),
        (("m.bank", "--token-file", "none"), "token"),
        (("plain.bank",), "model.bank_meta"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    mask_bank(tmp_path / "m.bank", 1)
    MaskBank.create("plain.bank", network().spec).close()
    assert run_command(["serve", *arguments, "--port", "0"]) in (1, 2)
    assert says in error_of(capsys)


@pytest.mark.browser
@pytest.mark.skipif(browser.find() is None, reason="no Chromium on the PATH")
def test_the_page_of_the_api_shows_without_a_network(tmp_path):
    opened = browser.browser(str(browser.find()), tmp_path / "profile")
    with serve_http(Engine(mask_bank(tmp_path / "m.bank", 1)), port=0) as server, opened as tab:
        tab.call("Page.navigate", url=f"{server.url}/docs")
        end, shown = time.monotonic() + 30, ""
        while "/tasks/pin" not in shown and time.monotonic() < end:
            shown = tab.evaluate("document.body ? document.body.innerText : ''")
        for text in ("/predict", "/tasks/pin", "application/x-npy", "none_of_these", "Refusals"):
            assert text in shown
        assert not tab.complaints
        assert all(url.startswith((server.url, "about:")) for url in tab.requests), tab.requests
