"""Which of LlamaIndex's clients speaks to whom, and how to make it speak to a replay server.

An integration is imported when a model of it is asked for, as in `clients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.extract.recorded import Interaction

__all__ = ["CLIENTS", "is_completion", "model_for"]

Make = Callable[..., Any]
OPENAI: Final = {"model": "gpt-4o-mini", "api_key": "x", "max_retries": 0}
LIKE: Final = {**OPENAI, "is_chat_model": True, "context_window": 100_000}
CONTEXT: Final = 100_000


def model_for(interaction: Interaction, url: str, **options: Any) -> Any:
    """A model whose next call gets the recorded answer; `None` if LlamaIndex has no client.

    Args:
        interaction: What was recorded.
        url: The address under which a server replays it.
        **options: Of the model's own.
    """
    make = CLIENTS.get((interaction.provider, interaction.api)) or CLIENTS.get(interaction.api)
    return None if make is None else make(url, interaction, **options)


def is_completion(interaction: Interaction) -> bool:
    """Whether it was recorded from an API that completes a text."""
    path = interaction.request["uri"].partition("?")[0]
    return interaction.api == "openai.completions" or path.endswith(
        ("/v1/completions", "/api/generate")
    )


def _openai(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.openai import OpenAI

    if is_completion(interaction):
        return _like(url, interaction, **options)
    return OpenAI(api_base=url, **OPENAI, **options)


def _like(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.openai_like import OpenAILike

    given = {**LIKE, "is_chat_model": not is_completion(interaction)}
    return OpenAILike(api_base=url, **given, **options)


def _responses(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.openai import OpenAIResponses

    return OpenAIResponses(api_base=url, **OPENAI, **options)


def _azure(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.azure_openai import AzureOpenAI

    return AzureOpenAI(
        engine="recorded", azure_endpoint=url, api_version="2024-10-21", **OPENAI, **options
    )


def _anthropic(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.anthropic import Anthropic

    given = {"model": "claude-sonnet-4-5", "api_key": "x", "max_tokens": 8, "max_retries": 0}
    return Anthropic(base_url=url, **given, **options)


def _ollama(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.ollama import Ollama

    return Ollama(base_url=url, model="recorded", context_window=CONTEXT, **options)


def _mistral(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.mistralai import MistralAI

    return MistralAI(endpoint=url, api_key="x", max_retries=0, **options)


def _gemini(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.google_genai import GoogleGenAI

    return GoogleGenAI(
        model="recorded",
        http_options={"base_url": url},
        api_key="x",
        context_window=CONTEXT,
        max_tokens=99,
        max_retries=0,
        **options,
    )


def _cohere(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.cohere import Cohere

    return Cohere(base_url=url, api_key="x", max_retries=1, **options)


def _converse(url: str, interaction: Interaction, **options: Any) -> Any:
    from llama_index.llms.bedrock_converse import BedrockConverse

    return BedrockConverse(
        model="anthropic.claude-3-haiku-20240307-v1:0",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        max_retries=1,
        **options,
    )


CLIENTS: Final[Mapping[object, Make]] = {
    "anthropic.messages": _anthropic,
    "bedrock.converse": _converse,
    "bedrock.converse_stream": _converse,
    "cohere.v1": _cohere,
    "cohere.v1_chat": _cohere,
    "gemini.generate_content": _gemini,
    "ollama": _ollama,
    "openai.chat": _like,
    "openai.completions": _like,
    "openai.responses": _responses,
    ("azure-openai", "openai.chat"): _azure,
    ("mistral", "openai.chat"): _mistral,
    ("openai", "openai.chat"): _openai,
}
