"""Running a notebook of this project as somebody who opens it, in a fresh kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOKS", "complaints_of", "run_notebook", "shows_tables"]

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

# ipykernel 7.4 warns of itself as it shuts down.
_WARNINGS = """
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module="ipykernel")
"""


def run_notebook(name: str) -> Any:
    """The notebook with its outputs; it is kept without any.

    Warnings are errors in its kernel. It fails if a cell does.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    warnings_are_errors = nbformat.v4.new_code_cell(_WARNINGS)
    notebook.cells.insert(0, warnings_are_errors)
    client = NotebookClient(
        notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": os.getcwd()}}
    )
    client.execute()
    return notebook


def complaints_of(notebook: Any) -> list[str]:
    """What its cells wrote to standard error, or failed with."""
    return [
        output.get("text") or output.get("evalue")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.get("name") == "stderr" or output.output_type == "error"
    ]


def shows_tables(notebook: Any) -> bool:
    """Whether it shows what cells used, and what was used in all, each with a number."""
    pages = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "<table" in output.get("data", {}).get("text/html", "")
    ]
    cells = [page for page in pages if "This cell, paid by" in page]
    reports = [page for page in pages if "tokens_total (" in page]
    return bool(cells and reports) and all("<td" in page for page in (*cells, *reports))
