"""Runs a tutorial: `python docs/run_tutorial.py SOURCE.py OUT.ipynb`, in the folder where its files may go.

A tutorial is a Python file in cells (`# %%`, `# %% [markdown]`). What its cells print and draw is in the notebook. The
cells run in this process one after another, and the first error ends it.
"""

import base64
import sys
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import jupytext
import matplotlib
import nbformat

matplotlib.use("Agg")

import matplotlib.pyplot as plt

_DPI = 144


def run(source: Path) -> Any:
    """The notebook of a source, with what each cell prints and draws."""
    notebook = jupytext.read(source, fmt="py:percent")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # by chance otherwise: a notebook is the same each time
        if cell.cell_type == "code":
            cell.execution_count = number + 1
            cell.outputs = _outputs(cell.source, f"{source.name}, cell {number + 1}", names)
    return notebook


def _outputs(code: str, name: str, names: dict[str, object]) -> list[Any]:
    plt.show = lambda: None  # what is drawn is taken below
    said = StringIO()
    with redirect_stdout(said):
        exec(compile(code, name, "exec"), names)
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=said.getvalue())] if said.getvalue() else []
    for number in plt.get_fignums():
        drawn = BytesIO()
        plt.figure(number).savefig(drawn, dpi=_DPI, metadata={"Software": None})
        picture = {"image/png": base64.b64encode(drawn.getvalue()).decode()}
        outputs.append(nbformat.v4.new_output("display_data", data=picture))
    plt.close("all")
    return outputs


if __name__ == "__main__":
    nbformat.write(run(Path(sys.argv[1])), sys.argv[2])
