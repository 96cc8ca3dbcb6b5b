"""The examples in docs/interop.md run as they are printed."""

import re
from pathlib import Path

import pytest

TEXT = Path(__file__).parents[3].joinpath("docs", "interop.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_run(tmp_path, monkeypatch, example):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/interop.md", "exec"), {})
