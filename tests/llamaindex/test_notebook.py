"""The notebook of LlamaIndex, run where its integrations are."""

from __future__ import annotations

from tests.notebooks_run import complaints_of, run_notebook, shows_tables


def test_notebook_runs(model_server, home, monkeypatch):
    """It runs from top to bottom without a warning, and shows what its cells used."""
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(home.parent / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home.parent / "jupyter"))

    notebook = run_notebook("llamaindex")

    assert complaints_of(notebook) == []
    assert shows_tables(notebook)
