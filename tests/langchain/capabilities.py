"""What the installed LangChain can do, for tests of what not every supported version has.

The latest versions have everything (`test_capabilities.py`), so each test runs there. A module whose
very imports need something stands in `MODULES`. See `tests/installed.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.installed import has

__all__ = ["CAPABILITIES", "MODULES", "missing"]


CAPABILITIES: Final[Mapping[str, Callable[[], bool]]] = {
    # `stream_events` and `astream_events` of version "v3", and `on_stream_event`.
    "v3_events": lambda: has("langchain-core", 1, 4),
    # `langchain.agents.create_agent`.
    "create_agent": lambda: has("langchain", 1, 0),
    # `configurable` values of a call in its metadata, until they went to LangSmith's tracer only.
    "configurable_in_metadata": lambda: not has("langchain-core", 1, 3),
    "configurable_gone": lambda: has("langchain-core", 1, 3),
    # The integrations' later versions, which report more of what a provider sends.
    "openai_1": lambda: has("langchain-openai", 1, 0),
    "anthropic_1": lambda: has("langchain-anthropic", 1, 0),
    "google_genai_4": lambda: has("langchain-google-genai", 4, 0),
    "aws_1": lambda: has("langchain-aws", 1, 0),
    "mistralai_1": lambda: has("langchain-mistralai", 1, 0),
    "ollama_1": lambda: has("langchain-ollama", 1, 0),
    "xai_1": lambda: has("langchain-xai", 1, 0),
    "openrouter": lambda: has("langchain-openrouter", 0),
    "langgraph_1": lambda: has("langgraph", 1, 0),
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
