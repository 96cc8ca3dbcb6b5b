"""Every run that the README and the other pages make has a report: made small here, on the digits."""

import re
import shlex
from pathlib import Path

import pytest

from supsup_models.cli.app import run_command
from supsup_models.runs import seed_folders

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SMALL = {"--tasks": "2", "--batches": "4", "--seeds": "2", "--shard": "0/2"}


def documented() -> list[list[str]]:
    """The words of each `supsup train` in a block of a page."""
    found = []
    for page in PAGES:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            lines = ("" if language else block).replace("\\\n", " ").splitlines()
            found += [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("supsup train ")]
    assert len(found) >= 5
    return found


def made_small(words: list[str], out: Path) -> list[str]:
    """The same arguments with the digits, two tasks and few batches."""
    given = dict(zip(words[1::2], words[2::2], strict=True))
    given["--stream"] = re.sub("(fashion-)?mnist$", "digits", given["--stream"])
    given = {**given, **{option: value for option, value in SMALL.items() if option in given}}
    given |= {"--tasks": "2", "--batches": "4", "--out": str(out)}
    given.pop("--data", None)
    for option in [option for option in given if option.startswith(("--cluster", "--worker-", "--device"))]:
        del given[option]  # clusters have tests of their own and need Ray; there may be no GPU
    return ["train", *(word for pair in given.items() for word in pair)]


@pytest.mark.slow
@pytest.mark.parametrize("words", documented(), ids=lambda words: " ".join(words[1:7]))
def test_a_documented_run_has_a_report(words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_command(made_small(words, run)) == 0
    assert run_command(["eval", str(run)]) == 0
    assert run_command(["report", str(run)]) == 0
    text = (run / "report.html").read_text()
    assert "None" not in text
    for section in ("accuracy", "storage", "confusion", "density"):
        assert f'<svg id="{section}"' in text, section
    assert bool(seed_folders(run)) == ("--seeds" in words)
