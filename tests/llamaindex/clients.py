"""LlamaIndex's models of the real integrations, pointed at the fake provider.

An integration is imported when a model of it is asked for: Anthropic's is in an environment of its
own. LlamaIndex looks up how long a prompt may be by the name of the model, and takes no name that it
does not know; so what the fake provider shall do (`slow+tools`, see `tests/provider`) goes where
each integration lets a name go on: into that of a fine-tuned model, or into its own table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.provider.client import Provider

__all__ = ["CLIENTS", "Client"]

Client = Callable[..., Any]

_CONTEXT: Final = 100_000


def _openai(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.openai import OpenAI

    return OpenAI(**_of_openai(provider, behaviour, options))


def _responses(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.openai import OpenAIResponses

    return OpenAIResponses(**_of_openai(provider, behaviour, options))


def _openai_like(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.openai_like import OpenAILike

    given = {
        "context_window": _CONTEXT,
        "is_chat_model": True,
        "is_function_calling_model": True,
    }
    named = {"model": _named("gpt-x", behaviour)}
    return OpenAILike(**_of_openai(provider, "", {**given, **named, **options}))


def _completions(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    return _openai_like(provider, behaviour, is_chat_model=False, **options)


def _azure(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.azure_openai import AzureOpenAI

    given = {
        "model": "gpt-4o-mini",
        "engine": _named("gpt-4o-mini", behaviour),
        "azure_endpoint": provider.url,
        "api_version": "2024-10-21",
        "api_key": "x",
        "max_retries": 0,
    }
    return AzureOpenAI(**{**given, **options})


def _anthropic(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.anthropic import Anthropic
    from llama_index.llms.anthropic.utils import CLAUDE_MODELS

    model = _known(CLAUDE_MODELS, _named("claude-sonnet-4-5", behaviour))
    given = {"model": model, "base_url": provider.url, "api_key": "x", "max_retries": 0}
    return Anthropic(**{**given, **options})


def _ollama(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.ollama import Ollama

    given = {
        "model": _named("llama", behaviour),
        "base_url": provider.url,
        "context_window": _CONTEXT,
        "request_timeout": 60.0,
    }
    return Ollama(**{**given, **options})


def _mistral(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.mistralai import MistralAI
    from llama_index.llms.mistralai.utils import MISTRALAI_MODELS

    # Its last chunk tells the usage, asked for or not: `unasked`.
    model = _known(MISTRALAI_MODELS, _named("mistral-small-latest+unasked", behaviour))
    given = {"model": model, "endpoint": provider.url, "api_key": "x", "max_retries": 0}
    return MistralAI(**{**given, **options})


def _gemini(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.google_genai import GoogleGenAI

    given = {
        "model": _named("gemini-x", behaviour),
        "http_options": {"base_url": provider.url},
        "api_key": "x",
        "context_window": _CONTEXT,
        "max_tokens": 99,
        "max_retries": 0,
    }
    return GoogleGenAI(**{**given, **options})


def _converse(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.bedrock_converse import BedrockConverse
    from llama_index.llms.bedrock_converse.utils import BEDROCK_MODELS

    given = {
        "model": _known(
            BEDROCK_MODELS, _named("anthropic.claude-3-haiku-20240307-v1:0", behaviour)
        ),
        "endpoint_url": provider.url,
        "region_name": "us-east-1",
        "aws_access_key_id": "x",
        "aws_secret_access_key": "x",
        "max_retries": 1,
    }
    return BedrockConverse(**{**given, **options})


def _litellm(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.llms.litellm import LiteLLM

    given = {
        "model": f"openai/{_named('gpt-x', behaviour)}",
        "api_base": provider.openai_url,
        "api_key": "x",
        "max_retries": 0,
    }
    return LiteLLM(**{**given, **options})


def _langchain(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from langchain_openai import ChatOpenAI
    from llama_index.llms.langchain import LangChainLLM

    model = ChatOpenAI(
        model=_named("gpt-4o-mini", behaviour),
        base_url=provider.openai_url,
        api_key="x",
        max_retries=0,
        stream_usage=True,
    )
    return LangChainLLM(model, **options)


def _custom(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from tests.llamaindex.custom import HttpLLM

    return HttpLLM(url=provider.openai_url, model=_named("gpt-x", behaviour), **options)


def _of_openai(provider: Provider, behaviour: str, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        "model": _named("ft:gpt-4o-mini:x", behaviour),
        "api_base": provider.openai_url,
        "api_key": "x",
        "max_retries": 0,
    }
    return {**given, **options}


def _named(model: str, behaviour: str) -> str:
    return f"{model}+{behaviour}" if behaviour else model


def _known(table: dict[str, int], model: str) -> str:
    table.setdefault(model, _CONTEXT)
    return model


CLIENTS: Final[Mapping[str, Client]] = {
    "openai": _openai,
    "openai_like": _openai_like,
    "responses": _responses,
    "completions": _completions,
    "azure": _azure,
    "anthropic": _anthropic,
    "ollama": _ollama,
    "custom": _custom,
    "mistral": _mistral,
    "gemini": _gemini,
    "converse": _converse,
    "litellm": _litellm,
    "langchain": _langchain,
}
"""Made of the provider, what it shall do, and options of the model's own."""
