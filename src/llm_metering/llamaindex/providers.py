"""What is known of an integration: whom it asks, and when.

Read in llama-index-llms-openai 0.8.3 (`base.py`, `responses.py`), -azure-openai 0.6.1, -openai-like
0.8.1, -ollama 0.11.0, -anthropic 0.12.3; in the embeddings and postprocessors that are named here.
"""

from __future__ import annotations

from typing import Any, Final

from ..installed import INSTALLED

__all__ = [
    "integration_of",
    "is_asked_late",
    "is_local",
    "is_metered_elsewhere",
    "model_of",
    "provider_of",
    "reads_raw",
]

_LANGCHAINS: Final = "llm_metering.langchain."
_INTEGRATIONS: Final = (
    "llama_index.llms.",
    "llama_index.embeddings.",
    "llama_index.postprocessor.",
)
_PROVIDERS: Final = {
    "anthropic": "anthropic",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "bedrock_rerank": "aws.bedrock",
    "cohere": "cohere",
    "cohere_rerank": "cohere",
    "deepseek": "deepseek",
    "google_genai": "gcp.gemini",
    "mistralai": "mistral_ai",
    "ollama": "ollama",
    "openrouter": "openrouter",
}
_NAMED: Final = 3
# Kept, since it is asked for several times a call.
_integrations: Final[dict[type[Any], str | None]] = {}
_LATE: Final = frozenset(["openai", "openai_like", "azure_openai", "ollama"])
"""They ask at the first step of a stream, not when it is made."""
_LOCAL: Final = frozenset(
    ["colbert_rerank", "flag_embedding_reranker", "openvino_rerank", "sbert_rerank"]
)
"""Rerankers whose model runs in this process."""
_OPENAI: Final = "https://api.openai.com/"


def provider_of(instance: object) -> str | None:
    """OpenTelemetry's name of who is asked; `None` where the answer has to tell."""
    name = integration_of(instance)
    if name == "openai":
        # The same class asks whoever speaks OpenAI's API.
        base = getattr(instance, "api_base", None)
        return "openai" if isinstance(base, str) and base.startswith(_OPENAI) else None
    return None if name is None else _PROVIDERS.get(name)


def is_asked_late(instance: object) -> bool:
    """Whether a stream that was never read was never asked for."""
    return integration_of(instance) in _LATE


def is_local(instance: object) -> bool:
    """Whether a reranker asks nobody."""
    return integration_of(instance) in _LOCAL


def reads_raw(instance: object) -> bool:
    """Whether `raw` in an answer is the provider's, not the user's own object."""
    return type(instance).__name__ != "StructuredLLM"


def is_metered_elsewhere(instance: Any) -> bool:
    """Whether the object only hands on to LangChain, and LangChain's calls are metered.

    llama-index-llms-langchain 0.9.0, `base.py`: what the model answers comes without its usage, and
    its streams take the place of the callbacks that it was given.
    """
    if integration_of(instance) != "langchain":
        return False
    if "langchain" in INSTALLED:
        return True
    callbacks = getattr(getattr(instance, "_llm", None), "callbacks", None)
    handlers = getattr(callbacks, "handlers", callbacks)
    return isinstance(handlers, list) and any(
        type(each).__module__.startswith(_LANGCHAINS) for each in handlers
    )


def model_of(instance: Any) -> object:
    """The model that an object asks, by its own account; `None` if it has none."""
    try:
        return instance.metadata.model_name
    except Exception:
        # A property of somebody else's class may do anything.
        return None


def integration_of(instance: Any) -> str | None:
    """The name of LlamaIndex's integration that an object is of; `None` for a class of the user's."""
    kind = type(instance)
    try:
        return _integrations[kind]
    except KeyError:
        parts = kind.__module__.split(".", _NAMED)
        is_one = len(parts) >= _NAMED and f"{parts[0]}.{parts[1]}." in _INTEGRATIONS
        name = _integrations[kind] = parts[2] if is_one else None
        return name
