"""The programs in `examples/` and the notebooks run as a user would run them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import nbformat
import pytest

from tests.notebooks_run import NOTEBOOKS, complaints_of, run_notebook, shows_tables

ROOT = Path(__file__).parents[1]


@pytest.fixture
def as_a_user(model_server, home, monkeypatch):
    """The environment that an example's own text asks for."""
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    # IPython keeps a history and Jupyter its connection files, by default with the developer's own.
    monkeypatch.setenv("IPYTHONDIR", str(home.parent / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home.parent / "jupyter"))
    return home


def run_example(name: str) -> str:
    """Run an example to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_first_call_shows_its_tokens(as_a_user):
    """The example ends with the tokens of its one call."""
    last_line = run_example("first_call.py").splitlines()[-1]

    subject, _, tokens = last_line.removesuffix(" tokens").partition(": ")
    assert subject == "customer-42"
    assert int(tokens) > 0


def test_local_model_serves_until_interrupted(tiny_model):
    """The server's example prints what to export, answers there, and ends with Ctrl-C."""
    command = [sys.executable, ROOT / "examples" / "local_model.py", tiny_model]
    # A shell without job control has what it runs in the background ignore Ctrl-C, and what that runs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with server:
        _, _, url = server.stdout.readline().strip().partition("=")
        models = httpx.get(f"{url}/models", trust_env=False).json()
        server.send_signal(signal.SIGINT)

        assert server.wait(30) == 0
        assert [model["id"] for model in models["data"]] == ["tiny"]


# What LlamaIndex's integrations pin cannot be installed beside the rest: tests/llamaindex runs theirs.
@pytest.mark.parametrize(
    "name", sorted({path.stem for path in NOTEBOOKS.glob("*.ipynb")} - {"llamaindex"})
)
def test_notebook_runs(name, as_a_user):
    """A notebook runs from top to bottom without a warning, and is kept without its outputs."""
    notebook = run_notebook(name)

    assert complaints_of(notebook) == []
    assert shows_tables(notebook)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_states_no_figure(path):
    """Whatever number a notebook shows comes from a cell: its text holds none."""
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")

    assert re.findall(r"\d", re.sub(r"`[^`]*`", "", text)) == []
