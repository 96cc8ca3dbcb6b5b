"""A server answers as the library does, for many requests at once, with masks that come and go."""

import asyncio
import json
import random
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from maskstore import MaskBank
from maskstore.interop import write_shards
from supsup_models import infer_images, load_run, open_stream, run_config, train_run
from supsup_models.errors import ArgumentError, ImageValueError, RequestError
from supsup_models.serving import Client, Engine, Limits, create_app, serve_http
from tests.helpers.servers import IMAGES, expected, mask_bank, network

ROOT = Path(__file__).parents[3]
NAMES = [f"task-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    return mask_bank(tmp_path_factory.mktemp("served") / "masks.bank", 12)


@pytest.fixture(scope="module")
def server(bank):
    with serve_http(Engine(bank), port=0) as running:
        yield running


def answers_of(found) -> list[tuple[str, int]]:
    return [(answer.task, answer.label) for answer in found]


def test_many_requests_at_once_get_their_own_answers(server, bank):
    tasks = [NAMES[number % 12] for number in range(40)]
    wanted = expected(bank, IMAGES, tasks)
    client = Client(server.url)

    def ask(number: int) -> bool:
        first = number % 39
        some = slice(first, first + 1 + number % 2)
        return answers_of(client.predict(IMAGES[some], tasks[some])) == wanted[some]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(300)))


def test_arrays_and_json_give_the_same(server):
    client = Client(server.url)
    one = client.predict(IMAGES[:2], "task-3")
    both = client.predict(IMAGES[:2], ["task-3", "task-3"])  # names that differ from image to image travel in JSON
    assert answers_of(one) == answers_of(both)
    assert [a.confidence for a in one] == pytest.approx([a.confidence for a in both], rel=1e-5)
    assert one[0].task_confidence is None


def test_masks_are_loaded_listed_pinned_and_unloaded(server):
    client = Client(server.url)
    client.load("task-5")
    client.pin("task-6")
    states = {each.task: each for each in client.tasks()}
    assert list(states) == NAMES
    assert states["task-5"].resident
    assert states["task-6"].pinned
    client.unload("task-5")
    with pytest.raises(RequestError, match="unpin it") as refused:
        client.unload("task-6")
    assert refused.value.status == 409
    client.unpin("task-6")
    client.unload("task-6")
    states = {each.task: each for each in client.tasks()}
    assert not states["task-5"].resident
    assert not states["task-6"].resident


def test_new_replaced_and_removed_tasks_are_seen(tmp_path):
    model, path = network(), mask_bank(tmp_path / "m.bank", 2)
    other = model.mask_of(model.initial_scores(77))
    limits = Limits(refresh_seconds=0.02)
    with serve_http(Engine(path, limits=limits), port=0) as running, MaskBank.open(path, "a") as writer:
        client = Client(running.url)
        client.pin("task-0")
        before = answers_of(client.predict(IMAGES, "task-0"))
        inferred = client.predict(IMAGES[:4])
        writer.put("task-new", other)
        writer.put("task-0", other, overwrite=True)

        writer.delete("task-1")
        assert [label for _, label in answers_of(client.predict(IMAGES, "task-new"))]  # at once, without a refresh
        end = time.monotonic() + 20
        while [each.task for each in client.tasks()] != ["task-0", "task-new"] and time.monotonic() < end:
            time.sleep(0.02)
        assert [each.task for each in client.tasks()] == ["task-0", "task-new"]
        after = answers_of(client.predict(IMAGES, "task-0"))
        assert after != before
        assert [label for _, label in after] == [a.label for a in client.predict(IMAGES, "task-new")]
        with pytest.raises(RequestError, match="no such task"):
            client.predict(IMAGES, "task-1")
        assert {a.task for a in client.predict(IMAGES)} <= {"task-0", "task-new"}
        assert len(inferred) == 4


def test_a_bank_that_is_replaced_or_gone_gives_nobody_elses_answers(tmp_path):
    path = mask_bank(tmp_path / "m.bank", 4)
    wanted = expected(path, IMAGES, ["task-0"] * 40)
    other = mask_bank(tmp_path / "other.bank", 4, network(seed=9))
    with serve_http(Engine(path, limits=Limits(refresh_seconds=0.02)), port=0) as running:
        client = Client(running.url)
        client.load("task-0")
        for change in (lambda: other.replace(path), path.unlink, lambda: path.write_bytes(b"no bank" * 1000)):
            change()
            time.sleep(0.1)
            assert answers_of(client.predict(IMAGES, "task-0")) == wanted  # it is in memory
            for ask in (lambda: client.predict(IMAGES, "task-1"), lambda: client.predict(IMAGES)):
                with pytest.raises(RequestError, match=r"deleted or replaced|another kind") as refused:
                    ask()
                assert refused.value.status == 503


def test_a_shard_set_that_is_written_anew_is_seen_unless_it_is_of_another_network(tmp_path):
    model, folder, path = network(), tmp_path / "set", mask_bank(tmp_path / "m.bank", 3)
    other = mask_bank(tmp_path / "other.bank", 3, network(seed=9))
    with MaskBank.open(path) as bank:
        write_shards(bank, folder, shards=2)
    with Engine(folder, limits=Limits(refresh_seconds=0.02)) as engine, MaskBank.open(path, "a") as writer:
        before = answers_of(engine.predict(IMAGES, "task-0").result())
        engine.predict(IMAGES[:2]).result()
        writer.put("task-0", model.mask_of(model.initial_scores(77)), overwrite=True)
        write_shards(writer, folder, shards=2, overwrite=True)
        wanted, end = expected(path, IMAGES, ["task-0"] * 40), time.monotonic() + 20
        while answers_of(engine.predict(IMAGES, "task-0").result()) != wanted and time.monotonic() < end:
            time.sleep(0.02)
        assert answers_of(engine.predict(IMAGES, "task-0").result()) == wanted != before
        engine.predict(IMAGES[:2]).result()
        assert engine._matrix is not None
        assert engine._matrix[0]["task-0"] == writer["task-0"]
        with MaskBank.open(other) as foreign:
            write_shards(foreign, folder, shards=1, overwrite=True)
        time.sleep(0.2)
        assert answers_of(engine.predict(IMAGES, ["task-0", "task-2"] * 20).result()) == expected(
            path, IMAGES, ["task-0", "task-2"] * 20
        )


@pytest.mark.filterwarnings("ignore::supsup_models.errors.ImageValueWarning")
def test_one_bad_image_spoils_no_batch(bank):
    with Engine(bank) as engine:
        jobs = [engine.predict(IMAGES[n : n + 1], f"task-{n % 12}") for n in range(12)]
        spoilt = [engine.predict(np.full((1, 64), value, "f4"), "task-0") for value in (np.nan, np.inf, 3e38)]
        found = [answers_of(job.result())[0] for job in jobs]
        assert found == expected(bank, IMAGES[:12], NAMES)
        for job in spoilt:
            with pytest.raises(ImageValueError, match="NaN or infinity"):
                job.result()


def test_a_mask_that_only_inference_knows_is_seen_when_it_is_replaced(tmp_path):
    model, path = network(), mask_bank(tmp_path / "m.bank", 3)
    with Engine(path, limits=Limits(refresh_seconds=0.02)) as engine, MaskBank.open(path, "a") as writer:
        assert len(engine.predict(IMAGES[:2]).result()) == 2
        assert not len(engine.residents)
        writer.put("task-1", model.mask_of(model.initial_scores(77)), overwrite=True)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            engine.predict(IMAGES[:2]).result()
            assert engine._matrix is not None
            if engine._matrix[0]["task-1"] == writer["task-1"]:
                break
        assert engine._matrix[0]["task-1"] == writer["task-1"]


def test_after_a_change_of_the_bank_only_what_is_new_is_looked_up(tmp_path, monkeypatch):
    model, path = network(), mask_bank(tmp_path / "m.bank", 12)
    looked: list[str] = []
    with Engine(path, limits=Limits(refresh_seconds=0.02)) as engine, MaskBank.open(path, "a") as writer:
        stamp = engine.served.stamp
        monkeypatch.setattr(engine.served, "stamp", lambda name: looked.append(name) or stamp(name))
        engine.predict(IMAGES[:12], NAMES).result()
        engine.predict(IMAGES[:1]).result()
        assert sorted(looked) == sorted(2 * NAMES)
        looked.clear()
        writer.put("task-new", model.mask_of(model.initial_scores(5)))
        end = time.monotonic() + 20
        while "task-new" not in engine.residents.names and time.monotonic() < end:
            time.sleep(0.02)
        engine.predict(IMAGES[:12], NAMES).result()
        engine.predict(IMAGES[:1]).result()
        assert looked == ["task-new"]


def test_a_long_listing_lets_others_take_their_turns(bank):
    parts: list[tuple[int, bytes]] = []
    turns = 0

    async def send(message) -> None:
        parts.append((turns, message.get("body", b"")))

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def ask(engine: Engine) -> None:
        beside = asyncio.ensure_future(others())
        asgi = {"spec_version": "2.4", "version": "3.0"}
        scope = {
            "type": "http",
            "asgi": asgi,
            "http_version": "1.1",
            "method": "GET",
            "path": "/tasks",
            "headers": [],
            "query_string": b"",
        }
        await create_app(engine)(scope, asyncio.Event().wait, send)
        beside.cancel()

    with Engine(bank, limits=Limits(refresh_seconds=1000)) as engine:
        engine.pin("task-3").result()
        engine.residents.names = (*NAMES, *(f"many-{number}" for number in range(20_000)))
        asyncio.run(ask(engine))
        listed = json.loads(b"".join(body for _, body in parts))
    assert [each["task"] for each in listed["tasks"]] == list(engine.residents.names)
    assert [each["task"] for each in listed["tasks"] if each["pinned"] and each["resident"]] == ["task-3"]
    assert max(len(body) for _, body in parts) < 1 << 16
    assert len({turn for turn, _ in parts}) > 30


def test_memory_is_bounded_and_pins_stay(tmp_path):
    model, path = network(), mask_bank(tmp_path / "m.bank", 12)
    mask_bytes = 8 * model.spec.words
    with Engine(path, limits=Limits(memory=2 * 3 * mask_bytes)) as engine:  # room for three, and three in the matrix
        engine.pin("task-0").result()
        tasks = [NAMES[number % 12] for number in range(40)]
        found = answers_of(engine.predict(IMAGES, tasks).result())
        assert found == expected(path, IMAGES, tasks)
        assert len(engine.residents) == 3
        assert "task-0" in engine.residents
        assert engine.residents.counts.evictions > 0
        engine.pin("task-1").result()
        with pytest.raises(RequestError, match="fewer than 3 pinned"):
            engine.pin("task-2").result()
        with pytest.raises(RequestError, match="name the task"):
            engine.predict(IMAGES).result()
    with pytest.raises(RequestError, match="room for a mask"):
        Engine(path, limits=Limits(memory=mask_bytes))


def test_masks_that_come_and_go_beside_requests_change_no_answer(bank):
    mask_bytes = 8 * network().spec.words
    wanted = expected(bank, IMAGES[:12], NAMES)
    with Engine(bank, limits=Limits(memory=2 * 4 * mask_bytes, refresh_seconds=0.001)) as engine:

        def change(number: int) -> set[int]:
            """The statuses of errors of some random changes and questions; answers are compared."""
            rng, statuses = random.Random(number), set()
            for _ in range(30):
                task = rng.randrange(12)
                try:
                    if rng.random() < 0.5:
                        rng.choice((engine.load, engine.unload, engine.pin, engine.unpin))(NAMES[task]).result()
                    else:
                        found = engine.predict(IMAGES[task : task + 1], NAMES[task]).result()
                        assert answers_of(found) == [wanted[task]]
                except RequestError as error:
                    statuses.add(error.status)
            return statuses

        with ThreadPoolExecutor(8) as pool:
            assert set().union(*pool.map(change, range(8))) <= {409}
        assert len(engine.residents) <= 4


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train_run(run_config("permuted-digits", tasks=3, outputs=40, batches=60, recipe="dense"), folder)
    return folder


def test_without_a_name_answers_are_those_of_infer_images(run):
    images = np.concatenate(
        [task.test.images(slice(0, 30)).numpy() for task in open_stream("permuted-digits", tasks=3)]
    )
    images[::7] = images[::7, ::-1]  # of none of the tasks
    wanted = infer_images(load_run(run, "cpu"), images).answers
    with serve_http(Engine(run), port=0) as running:
        client = Client(running.url)
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda start: client.predict(images[start : start + 15]), range(0, 90, 15)))
    found = [answer for part in parts for answer in part]
    assert [(a.task, a.label, a.none_of_these) for a in found] == [(a.task, a.label, a.none_of_these) for a in wanted]
    np.testing.assert_allclose([a.confidence for a in found], [a.confidence for a in wanted], rtol=1e-4)
    np.testing.assert_allclose(
        [a.task_confidence for a in found], [a.task_confidence for a in wanted], rtol=1e-4, atol=2e-3
    )
    assert any(a.none_of_these for a in found)


def test_a_token_is_asked_for_and_needed_beyond_loopback(bank):
    with pytest.raises(ArgumentError, match="expected a token"):
        serve_http(Engine(bank), host="0.0.0.0", port=0)
    with serve_http(Engine(bank), port=0, token="s3cret") as running:
        for token in (None, "other", "s3cret2"):
            with pytest.raises(RequestError) as refused:
                Client(running.url, token=token).tasks()
            assert refused.value.status == 401
        assert len(Client(running.url, token="s3cret").tasks()) == 12
        assert urllib.request.urlopen(f"{running.url}/healthz").status == 200


def test_the_metrics_are_those_of_the_dashboard(server):
    Client(server.url).predict(IMAGES[:1], "task-0")
    Client(server.url).predict(IMAGES[:1])
    text = urllib.request.urlopen(f"{server.url}/metrics").read().decode()
    shown = set(re.findall(r"^(supsup_\w+)", text, re.MULTILINE))
    drawn = set(re.findall(r"supsup_\w+", (ROOT / "docs" / "serving-dashboard.json").read_text()))
    assert drawn
    assert drawn <= shown
    assert 'supsup_images_total{task="named"}' in text


def test_a_port_that_is_taken_is_named(server, bank):
    port = int(server.url.rpartition(":")[2])
    with Engine(bank) as engine, pytest.raises(RequestError, match="name another"):
        serve_http(engine, port=port)


def test_bodies_are_bounded_together(bank):
    with serve_http(Engine(bank, limits=Limits(bodies=4096)), port=0) as running, Client(running.url) as client:
        for _ in range(3):
            with pytest.raises(RequestError, match="bytes of bodies") as refused:
                client.predict(IMAGES, "task-0")
            assert refused.value.status == 503
        for _ in range(20):  # what was answered or refused is no longer counted
            assert len(client.predict(IMAGES[:8], "task-0")) == 8


def test_a_busy_server_says_so(bank):
    limits = Limits(waiting=4)
    with serve_http(Engine(bank, limits=limits), port=0) as running:
        with pytest.raises(RequestError, match="try again later") as refused:
            Client(running.url).predict(IMAGES[:5], "task-0")
        assert refused.value.status == 503
        assert len(Client(running.url).predict(IMAGES[:4], "task-0")) == 4


def test_who_waits_too_long_is_told_and_nobody_else_is_harmed(bank):
    wanted = expected(bank, IMAGES, ["task-1"] * 40)
    with serve_http(Engine(bank, limits=Limits(answer_seconds=0.5)), port=0) as running:
        client = Client(running.url)
        running._engine._change(lambda name: time.sleep(1.5), "task-0")
        with pytest.raises(RequestError, match=r"within 0\.5 seconds") as refused:
            client.predict(IMAGES, "task-1")
        assert refused.value.status == 504
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(RequestError):
                assert answers_of(client.predict(IMAGES, "task-1")) == wanted
                break
        assert running._engine.waiting == 0
