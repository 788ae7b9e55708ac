"""Who is meant by the many names of a provider.

OpenTelemetry's names of providers are the ones used here (`gen_ai.provider.name` of its semantic
conventions for generative AI, 1.37.0). The others are those of LangChain (`ls_provider`), LlamaIndex,
LiteLLM (its prefixes of models) and genai-prices 0.2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["PREFIXES", "canonical_provider", "provider_names"]

_ALIASES: Final[Mapping[str, str]] = {
    "aws.bedrock": "aws bedrock bedrock_converse bedrock_rerank amazon_bedrock aws_bedrock",
    "anthropic": "anthropic_messages",
    "azure": "azure_ai_foundry",
    "azure.ai.inference": "azure_ai az.ai.inference azure_ai_inference",
    "azure.ai.openai": "azure_openai az.ai.openai azure_text",
    "cohere": "cohere_chat",
    "fireworks": "fireworks_ai",
    "gcp": "google gcp.gen_ai",
    "gcp.gemini": "gemini google_genai google_ai google_gla google_generative_ai",
    "gcp.vertex_ai": (
        "vertex_ai vertexai vertex google_vertexai google_vertex vertex_ai_beta "
        "google_anthropic_vertex anthropic_vertex"
    ),
    "github_copilot": "copilot",
    "ibm.watsonx.ai": "watsonx ibm watsonx_text",
    "mistral_ai": "mistral mistralai",
    "moonshotai": "moonshot",
    "ollama": "ollama_chat",
    "openai": "text_completion_openai",
    "perplexity": "perplexity_ai pplx",
    "together": "together_ai togetherai",
    "voyageai": "voyage voyage_ai",
    "x_ai": "xai",
    "z_ai": "zai",
}
_CANONICAL: Final = {
    alias: name for name, aliases in _ALIASES.items() for alias in (name, *aliases.split())
}

_BEHIND: Final[Mapping[str, tuple[str, ...]]] = {
    "azure": ("azure.ai.openai", "azure"),
    "azure.ai.inference": ("azure.ai.inference", "azure"),
    "azure.ai.openai": ("azure.ai.openai", "azure"),
    "gcp.gemini": ("gcp.gemini", "gcp"),
    "gcp.vertex_ai": ("gcp.vertex_ai", "gcp"),
}
"""Where prices of a provider are looked up, in turn: those of one of its APIs, then those of all.
LangChain says `azure` of Azure OpenAI."""

PREFIXES: Final = frozenset(
    [
        *("anthropic", "azure", "azure_ai", "bedrock", "bedrock_converse", "cerebras"),
        *("cloudflare", "cohere", "cohere_chat", "databricks", "deepseek", "fireworks_ai"),
        *("gemini", "github_copilot", "groq", "mistral", "moonshot", "novita"),
        *("ollama", "ollama_chat", "openai", "openrouter", "perplexity", "together_ai"),
        *("vertex_ai", "vertex_ai_beta", "voyage", "watsonx", "xai", "zai"),
    ]
)
"""What stands before a `/` in a model's name to say who is asked, as LiteLLM has it. The names of
organisations at Hugging Face, such as `mistralai/`, are none: who serves such a model nobody knows."""


def canonical_provider(name: str) -> str:
    """One name for all that are written for a provider.

    >>> canonical_provider("Google_VertexAI"), canonical_provider("xai"), canonical_provider("acme")
    ('gcp.vertex_ai', 'x_ai', 'acme')
    """
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    return _CANONICAL.get(plain, plain)


def provider_names(name: str) -> tuple[str, ...]:
    """Under which names prices of a provider may stand, the narrowest first.

    >>> provider_names("vertexai")
    ('gcp.vertex_ai', 'gcp')
    """
    canonical = canonical_provider(name)
    return _BEHIND.get(canonical, (canonical,))
