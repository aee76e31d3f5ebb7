"""Validates notebooks and executes them: check.py NOTEBOOK…

What is stored is not touched. A notebook must be of nbformat 4.5, have one cell of parameters, store every figure as SVG and
PNG, run without an error where it lies, and draw as many figures as it stores."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def figures(notebook):
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data for output in outputs if "image/png" in output.get("data", {})]


for path in map(Path, sys.argv[1:]):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5), path
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, f"{path}: {len(tagged)} cells of parameters, expected one"
    stored = figures(notebook)
    assert stored and all("image/svg+xml" in data for data in stored), f"{path}: a figure without SVG"
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    drawn = figures(notebook)
    assert len(drawn) == len(stored), f"{path}: {len(drawn)} figures drawn, {len(stored)} stored"
    print(f"{path}: valid, executed, {len(drawn)} figure(s)")
