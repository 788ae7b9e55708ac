"""The Python of the README and of the pages about LlamaIndex runs as it stands.

As in the test of the same name one folder up, which leaves out what needs an integration of
LlamaIndex's.
"""

from __future__ import annotations

import gc
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import llm_metering

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/explanation/llamaindex.md", "docs/how-to/llamaindex.md"]

_EXAMPLES = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def as_a_user(model_server, home, tmp_path, monkeypatch):
    """An environment in which a first program runs: a model to call, a home, no settings."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):  # OpenAI's name for it, and LlamaIndex's
        monkeypatch.setenv(name, model_server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    yield
    llm_metering.uninstall()
    llm_metering.close()
    # What a program of a few lines leaves open is closed here, and not in the time of another test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.needs("openai_0_8")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page, as_a_user):
    """The examples of a page run from top to bottom, are metered, and metering fails in none."""
    names: dict[str, Any] = {"__name__": "example"}
    for example in _EXAMPLES.findall((ROOT / page).read_text()):
        exec(compile(example, page, "exec"), names)
    names.clear()

    assert llm_metering.flush()
    rows = llm_metering.usage(meter="calls_total", group_by=["framework"])
    assert "llamaindex" in {row.group_by["framework"] for row in rows}
    # Metering never raises during a call: only here would a failure of ours show.
    assert llm_metering.get_meter().statistics()["failures"] == 0
