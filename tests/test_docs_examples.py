"""Every Python example of the README and the documentation runs as it stands.

The examples speak to whatever `OPENAI_BASE_URL` names, as they would in a user's hands; here it
is the real server with the tiny model. What needs one of LlamaIndex's integrations, which pin older
SDKs, runs in `tests/llamaindex/test_docs_examples.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import llm_metering

ROOT = Path(__file__).parents[1]
INTEGRATION = "from llama_index.llms."


def pages_with_examples() -> list[str]:
    """The pages that hold Python, relative to the project."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        str(page.relative_to(ROOT))
        for page in pages
        if "```python" in page.read_text() and page.name != "llamaindex.md"
    ]


@pytest.fixture
def as_a_user(model_server, home, tmp_path, monkeypatch):
    """An environment in which a first program runs: a model to call, a home, no settings."""
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    yield
    llm_metering.uninstall()
    llm_metering.close()


@pytest.mark.parametrize("page", pages_with_examples())
def test_examples_run(page, as_a_user):
    """The examples of a page run from top to bottom, and metering fails in none of them."""
    sybil = Sybil(parsers=[PythonCodeBlockParser()])

    for example in sybil.parse(ROOT / page).examples():
        if INTEGRATION not in example.parsed:
            example.evaluate()

    # Metering never raises during a call: only here would a failure of ours show.
    assert llm_metering.get_meter().statistics()["failures"] == 0
