"""What the installed LlamaIndex can do, for tests of what not every supported version has.

The latest versions have everything (`test_capabilities.py`), so each test runs there. A module whose
very imports need something stands in `MODULES`. Anthropic's integration has an environment of its
own, and its tests a folder of theirs: `anthropic/`. See `tests/installed.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from llama_index.core.program import LLMTextCompletionProgram

from tests.installed import has

__all__ = ["CAPABILITIES", "MODULES", "missing"]


def _is_before(package: str, *version: int) -> bool:
    return has(package) and not has(package, *version)


CAPABILITIES: Final[Mapping[str, Callable[[], bool]]] = {
    "core_0_13": lambda: has("llama-index-core", 0, 13),
    "core_0_14": lambda: has("llama-index-core", 0, 14),
    "instrumentation_0_5": lambda: has("llama-index-instrumentation", 0, 5),
    "instrumentation_0_6": lambda: has("llama-index-instrumentation", 0, 6),
    # Streams of `LLMTextCompletionProgram`, of models that take no tools.
    "streamed_text_programs": lambda: "stream_call" in vars(LLMTextCompletionProgram),
    # Integrations that are not among the oldest.
    "cohere_embeddings": lambda: has("llama-index-embeddings-cohere"),
    "cohere_rerank": lambda: has("llama-index-postprocessor-cohere-rerank"),
    "google_genai_embeddings": lambda: has("llama-index-embeddings-google-genai"),
    "litellm": lambda: has("llama-index-llms-litellm"),
    "mistralai_embeddings": lambda: has("llama-index-embeddings-mistralai"),
    # The integrations' later versions, which report more of what a provider sends.
    "anthropic_0_12": lambda: not _is_before("llama-index-llms-anthropic", 0, 12),
    "google_genai_0_11": lambda: has("llama-index-llms-google-genai", 0, 11),
    "ollama_0_11": lambda: has("llama-index-llms-ollama", 0, 11),
    # Older ones ask Ollama by an API that reports nothing.
    "ollama_embeddings_0_8": lambda: has("llama-index-embeddings-ollama", 0, 8),
    "openai_0_8": lambda: has("llama-index-llms-openai", 0, 8),
    # What runs a notebook; only beside the newest.
    "notebooks": lambda: has("nbclient") and has("ipykernel"),
}

MODULES: Final[Mapping[str, str]] = {
    # What it expects of each recording is for the latest clients.
    "test_recorded_traffic.py": "openai_0_8",
    "test_notebook.py": "notebooks",
}
"""What a module needs to be imported at all, by its file name."""


def missing(*names: str) -> list[str]:
    """Which of these the installed packages cannot do."""
    return [name for name in names if not CAPABILITIES[name]()]
