"""Runs the notebooks on the pocket suite and writes them back with what came out; `python -m notebooks.make [NAME …]`.

Each gets the badge and the first cell that `dit_core.project` says. What would differ from run to run (times, ids, a
live widget's state) is left out, so that a notebook whose results are the same stays the same file.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from dit_core.project import badge, repository, setup_cell

HERE = Path(__file__).parent
SECONDS = 300  # for one cell, on a machine that has other things to do
LIVE = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebooks() -> list[Path]:
    """The notebooks in reading order."""
    return sorted(HERE.glob("*.ipynb"))


def prepared(path: Path) -> NotebookNode:
    """Return a notebook with its badge (where published), the first code cell that all share, and no outputs."""
    notebook = nbformat.read(path, as_version=4)
    title, first = notebook.cells[:2]
    lines = [line for line in title.source.split("\n") if not line.startswith("[![Open in Colab]")]
    parts = [lines[0], badge(path.name, repository()), "\n".join(lines[1:]).strip()]
    title.source = "\n\n".join(filter(None, parts))
    first.source = setup_cell(repository())
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return notebook


def run(notebook: NotebookNode) -> NotebookNode:
    """Runs it from top to bottom, in this interpreter and with this code; CellExecutionError where a cell fails."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(HERE)}})
    client.store_widget_state = False
    client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _joined([_lasting(output) for output in cell.outputs if _lasts(output)])
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return notebook


def _lasts(output: NotebookNode) -> bool:
    """Whether an output is worth keeping: progress bars and warnings are not, nor a widget with nothing beside it."""
    if output.output_type == "stream":
        return output.name == "stdout"
    return output.output_type == "error" or LIVE not in output.data or "text/html" in output.data


def _lasting(output: NotebookNode) -> NotebookNode:
    """The output without what belongs to one run only, its numbers no more exact than any machine gives them."""
    if "data" in output:
        output.data = {kind: _rounded(data) for kind, data in output.data.items() if kind != LIVE}
    if "execution_count" in output and output.output_type == "execute_result":
        output.execution_count = None
    return output


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Printed text that arrived in pieces as one output."""
    found: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and found and found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def _rounded(data: Any) -> Any:
    if isinstance(data, float):
        return float(f"{data:.4g}")
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(value) for value in data] if isinstance(data, list) else data


def main(names: list[str]) -> None:
    """Makes the notebooks whose names begin so, all without names."""
    for path in notebooks():
        if not names or path.name.startswith(tuple(names)):
            start = time.monotonic()
            nbformat.write(run(prepared(path)), path)
            print(f"{path.name}: {time.monotonic() - start:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
