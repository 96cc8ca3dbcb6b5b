"""Runs that are shared: folders, and a hub of this machine that speaks the part of the protocol that is needed."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from supsup_models import Run, TaskStream, convert, load_run
from supsup_models.errors import ArgumentTypeError, RunError
from tests.helpers.runs import trained_run

hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub")

from supsup_models.report import HubRun  # noqa: E402

COMMIT = "0" * 39 + "1"


class FakeHub(BaseHTTPRequestHandler):
    """Keeps the files of every repository in `files`, by repository and path."""

    files: ClassVar[dict[str, dict[str, bytes]]] = {}
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self._answer(self._posted(self.path, body))

    def _posted(self, path: str, body: bytes) -> object:
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            wanted = json.loads(body)
            repo = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
            self.files.setdefault(repo, {})
            return {"url": f"http://{self.headers['host']}/{repo}", "name": repo}
        repo = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            return {"files": [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]}
        assert "/commit/" in path, path
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                self.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"http://{self.headers['host']}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "api":
            repo = "/".join(parts[2:4])
            files = self.files.get(repo, {})
            tree = [{"type": "file", "path": path, "size": len(content), "oid": "0"} for path, content in files.items()]
            about = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
            self._answer(tree if "tree" in parts else about, 200 if repo in self.files else 404)
            return
        content = self.files.get("/".join(parts[:2]), {}).get("/".join(parts[4:]), b"")
        headers = {"etag": f'"{hashlib.sha1(content).hexdigest()}"', "x-repo-commit": COMMIT}
        self._answer(content, 200 if content else 404, headers if content else {"x-error-code": "EntryNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(FakeHub, "files", {})
    yield url
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_run_is_pushed_and_loaded_again(trained, tmp_path, endpoint):
    run = load_run(trained, "cpu")
    HubRun(run).push_to_hub("someone/tasks", token="none")
    pushed = FakeHub.files["someone/tasks"]
    assert set(pushed) >= {"README.md", "masks.bank", "run.json", "config.json"}
    again = HubRun.from_pretrained("someone/tasks", cache_dir=tmp_path, token=False, device="cpu").run
    assert again.matrix.names == run.matrix.names
    images = run.stream()[1].test.images(slice(0, 5))
    assert torch.equal(again.model(images, again.matrix[1]), run.model(images, run.matrix[1]))


def test_the_card_has_the_figures_of_the_run(trained, tmp_path):
    run = load_run(trained, "cpu")
    HubRun(run).save_pretrained(tmp_path)
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert "supermasks" in card.data.tags
    assert [line.split("|")[1].strip() for line in card.text.splitlines() if line.startswith("| `")] == [
        f"`{name}`" for name in run.matrix.names
    ]
    assert f"recipe `{run.record.config.recipe}`" in card.text
    assert "model=model" not in card.text  # the record says all of this network
    HubRun(load_run(tmp_path, "cpu")).save_pretrained(tmp_path)  # into the folder that it came from
    assert HubRun.from_pretrained(tmp_path).run.matrix.names == run.matrix.names


def test_a_run_over_a_module_wants_the_module_again(tmp_path):
    def network(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 30)).eval()

    def converted(seed: int):
        return convert(network(seed), weights="keep", head="2", image_shape=(16,), classes=2)

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    images = (rng.normal(size=(60, 16)) + labels[:, None]).astype("f4")
    stream = TaskStream.from_arrays([(images, labels, images, labels)])
    run = Run.create(tmp_path / "run`s |name", converted(0), stream, batches=4)
    run.train()
    HubRun(run.loaded).save_pretrained(tmp_path / "shared")
    assert HubRun.from_pretrained(tmp_path / "shared", model=converted(0)).run.matrix.names == ("task-0",)
    with pytest.raises(RunError, match="expected the network that the run was made with"):
        HubRun.from_pretrained(tmp_path / "shared", model=converted(1))
    text = (tmp_path / "shared" / "README.md").read_text()
    assert "model=model" in text
    assert "# `run s  name`" in text
    with pytest.raises(ArgumentTypeError, match=r"expected a LoadedRun, found Run; run\.loaded is one"):
        HubRun(run)


def test_a_run_is_saved_over_itself_and_over_nothing_else(trained, tmp_path):
    run = HubRun(load_run(trained, "cpu"))
    run.save_pretrained(tmp_path / "shared")
    saved = {path.name: path.read_bytes() for path in (tmp_path / "shared").iterdir()}
    (tmp_path / "shared" / "masks.bank-wal").write_bytes(b"of another time")
    run.save_pretrained(tmp_path / "shared")
    assert {path.name: path.read_bytes() for path in (tmp_path / "shared").iterdir()} == saved

    other = trained_run(tmp_path / "other", "--seed", "6")
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    with pytest.raises(RunError, match="other: expected no run or the same one, found another run; name a new folder"):
        run.save_pretrained(other)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before

    grown = trained_run(tmp_path / "grown", "--tasks", "4")
    with pytest.raises(RunError, match="found tasks that the run lacks"):
        run.save_pretrained(grown)
    HubRun(load_run(grown, "cpu")).save_pretrained(tmp_path / "shared")
    assert len(HubRun.from_pretrained(tmp_path / "shared").run.matrix.names) == 4

    for name in ("masks.bank", "config.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(b"somebody's")
        with pytest.raises(RunError, match=f"expected a folder without files of others, found {name}"):
            run.save_pretrained(folder)
        assert (folder / name).read_bytes() == b"somebody's"


def test_a_damaged_config_is_named(trained, tmp_path, endpoint):
    HubRun(load_run(trained, "cpu")).save_pretrained(tmp_path / "shared")
    for content in (b"{", b"[1]", b"\xff\xfe", b'"name"'):
        (tmp_path / "shared" / "config.json").write_bytes(content)
        with pytest.raises(RunError, match=r"config\.json: expected a model's config"):
            HubRun.from_pretrained(tmp_path / "shared")
    FakeHub.files["someone/damaged"] = {"config.json": b"{"}
    with pytest.raises(RunError, match=r"someone/damaged: expected a config\.json of a model"):
        HubRun.from_pretrained("someone/damaged", cache_dir=tmp_path, token=False)
