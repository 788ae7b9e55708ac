"""What the installed LangChain can do, for tests of what not every supported version has.

A test says what it is about, `@pytest.mark.needs("v3_events")`; one that needs what is not there is
not run, and pytest counts it as deselected. It is no skip: the latest versions have everything
(`test_capabilities.py`), so each test runs there. A module whose very imports need something stands
in `MODULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["CAPABILITIES", "MODULES", "missing"]


def _has(package: str, *least: int) -> bool:
    try:
        parts = version(package).split(".")
    except PackageNotFoundError:
        return False
    return tuple(int(part) for part in parts[: len(least)] if part.isdecimal()) >= least


CAPABILITIES: Final[Mapping[str, Callable[[], bool]]] = {
    # `stream_events` and `astream_events` of version "v3", and `on_stream_event`.
    "v3_events": lambda: _has("langchain-core", 1, 4),
    # `langchain.agents.create_agent`.
    "create_agent": lambda: _has("langchain", 1, 0),
    # `configurable` values of a call in its metadata, until they went to LangSmith's tracer only.
    "configurable_in_metadata": lambda: not _has("langchain-core", 1, 3),
    "configurable_gone": lambda: _has("langchain-core", 1, 3),
    # The integrations' later versions, which report more of what a provider sends.
    "openai_1": lambda: _has("langchain-openai", 1, 0),
    "anthropic_1": lambda: _has("langchain-anthropic", 1, 0),
    "google_genai_4": lambda: _has("langchain-google-genai", 4, 0),
    "aws_1": lambda: _has("langchain-aws", 1, 0),
    "mistralai_1": lambda: _has("langchain-mistralai", 1, 0),
    "ollama_1": lambda: _has("langchain-ollama", 1, 0),
    "xai_1": lambda: _has("langchain-xai", 1, 0),
    "openrouter": lambda: _has("langchain-openrouter", 0),
    "langgraph_1": lambda: _has("langgraph", 1, 0),
}

MODULES: Final[Mapping[str, str]] = {
    "test_agents.py": "create_agent",
    # What it expects of each recording is for the latest clients.
    "test_recorded_traffic.py": "openrouter",
}
"""What a module needs to be imported at all, by its file name."""

GONE: Final = frozenset(["configurable_in_metadata"])
"""What the latest versions have no more."""


def missing(*names: str) -> list[str]:
    """Which of these the installed packages cannot do."""
    return [name for name in names if not CAPABILITIES[name]()]
