"""The script for a first session on a GPU goes through all of its steps, on a CPU and in tiny sizes."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import gpu
from tests.helpers.commands import in_fresh_process

STEPS = [step.__name__ for step in gpu.STEPS]


def test_all_steps_run_and_the_file_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--tiny", "--minutes", "5", "--out", str(out)])
    result = json.loads(out.read_text())
    assert list(dict.fromkeys(row["step"] for row in result["rows"])) == STEPS
    assert not [row for row in result["rows"] if "failed" in row["found"]]
    assert all(row["seconds"] > 0 for row in result["rows"] if row["step"] != "tests")
    assert "training of 3 tasks" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="measured on a GPU"):
        gpu.section(result)


def test_a_step_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(session: gpu.Session):
        yield {"what": "half", "found": "1 ms", "seconds": 1e-3}
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpu, "STEPS", (broken, gpu.switching))
    monkeypatch.setattr(gpu, "SHARES", (0.5, 1.0))
    rows = gpu.run(gpu.Session("cpu", None, True), 1.0, tmp_path / "gpu.json")["rows"]
    assert [row["what"] for row in rows] == ["half", "broken", "mask switch, LeNet"]
    assert rows[1]["found"] == "failed: RuntimeError: out of memory"
    late = gpu.run(gpu.Session("cpu", None, True), 0.0, tmp_path / "gpu.json")["rows"]
    assert {row["found"] for row in late} == {"not run: no time left"}


def test_the_page_has_what_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text((gpu.ROOT / "docs" / "gpu.md").read_text())
    rows = [{"step": "switching", "what": "mask switch", "found": "1 ms"}]
    gpu.write_page({"device": "A card", "torch": "2", "tiny": False, "rows": rows}, page)
    text = page.read_text()
    assert "Measured on A card" in text
    assert "| mask switch | 1 ms |" in text
    assert "Nothing on this page has run" not in text
    assert text.endswith((gpu.ROOT / "docs" / "gpu.md").read_text().partition(gpu.END)[2])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None or sys.platform != "linux", reason="needs Triton")
def test_products_run_in_tritons_interpreter() -> None:
    program = (
        "from time import perf_counter\n"
        "from benchmarks import gpu\n"
        "session = gpu.Session('cpu', 'triton', True)\n"
        "session.until = perf_counter() + 100\n"
        "print(len(list(gpu.products(session))))"
    )
    done = in_fresh_process(program, TRITON_INTERPRET="1")
    assert done.stdout.strip() == "4", done.stderr
