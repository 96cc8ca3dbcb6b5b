"""Tutorials on the site: each is run while the site is built, and shown with what it printed and drew.

The sources are in docs/tutorials/, a Python file each. The page also offers the notebook, with its outputs, and the
source to download.
"""

import base64
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
RUNNER = ROOT / "docs" / "run_tutorial.py"
_AT_ONCE = 2


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Runs the tutorials, and puts their pages, pictures and notebooks in the place of their sources."""
    sources = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_AT_ONCE) as pool:
        notebooks = list(pool.map(partial(executed, folder=Path(folder)), sources))
    for source, notebook in zip(sources, notebooks, strict=True):
        text, pictures = page_of(source.stem, notebook)
        files.append(File.generated(config, f"tutorials/{source.stem}.md", content=text))
        files.append(File.generated(config, f"tutorials/{source.stem}.ipynb", content=nbformat.writes(notebook)))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=picture))
    return files


def executed(source: Path, folder: Path) -> Any:
    """The notebook of a tutorial, run in a process and a folder of its own; PluginError with what went wrong."""
    place = folder / source.stem
    place.mkdir()
    out = place / f"{source.stem}.ipynb"
    told = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(RUNNER), str(source), str(out)]
    done = subprocess.run(command, cwd=place, env=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PluginError(f"{source.name}: expected a tutorial that runs, found an error\n{done.stderr}")
    return nbformat.read(out, as_version=4)


def page_of(name: str, notebook: Any) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a tutorial, and its pictures by file name."""
    parts, pictures = [], {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            if output.output_type == "stream":
                parts.append(f"```text\n{output.text.rstrip()}\n```")
            else:
                file = f"{name}-{len(pictures) + 1}.png"
                pictures[file] = base64.b64decode(output.data["image/png"])
                parts.append(f"![what the cell above draws]({file})")
    link = f"Take it with you: [the notebook]({name}.ipynb), [the source]({name}.py)."
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join([title, link, rest.strip(), *parts[1:]]) + "\n", pictures
