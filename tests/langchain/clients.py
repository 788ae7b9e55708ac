"""LangChain's models of the real integrations, pointed at the fake provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from langchain_anthropic import ChatAnthropic
from langchain_aws import BedrockLLM, ChatBedrock, ChatBedrockConverse
from langchain_deepseek import ChatDeepSeek
from langchain_google_genai import ChatGoogleGenerativeAI, GoogleGenerativeAI
from langchain_groq import ChatGroq
from langchain_mistralai import ChatMistralAI
from langchain_ollama import ChatOllama, OllamaLLM
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI
from langchain_xai import ChatXAI

from tests.provider.client import Provider

__all__ = ["CLIENTS", "Client"]

Client = Callable[..., Any]


def _openai(provider: Provider, **options: Any) -> ChatOpenAI:
    given = {"model": "gpt-x", "base_url": provider.openai_url, "stream_usage": True}
    return ChatOpenAI(**_keyed(given, options))


def _responses(provider: Provider, **options: Any) -> ChatOpenAI:
    given = {"model": "gpt-x", "base_url": provider.openai_url, "use_responses_api": True}
    return ChatOpenAI(**_keyed(given, options))


def _azure(provider: Provider, **options: Any) -> AzureChatOpenAI:
    model = options.pop("model", "gpt-x")
    given = {
        "azure_deployment": model,
        "azure_endpoint": provider.url,
        "api_version": "2024-10-21",
        "stream_usage": True,
    }
    return AzureChatOpenAI(**_keyed(given, options))


def _completions(provider: Provider, **options: Any) -> OpenAI:
    return OpenAI(**_keyed({"model": "gpt-x", "base_url": provider.openai_url}, options))


def _xai(provider: Provider, **options: Any) -> ChatXAI:
    given = {"model": "grok+xai", "xai_api_base": provider.openai_url, "stream_usage": True}
    return ChatXAI(**_keyed(given, options))


def _deepseek(provider: Provider, **options: Any) -> ChatDeepSeek:
    given = {"model": "deepseek-x", "api_base": provider.openai_url, "stream_usage": True}
    return ChatDeepSeek(**_keyed(given, options))


def _anthropic(provider: Provider, **options: Any) -> ChatAnthropic:
    given = {"model": "claude-x", "base_url": provider.url, "max_tokens": 99}
    return ChatAnthropic(**_keyed(given, options))


def _groq(provider: Provider, **options: Any) -> ChatGroq:
    return ChatGroq(**_keyed({"model": "llama-x+groq", "base_url": provider.url}, options))


def _mistral(provider: Provider, **options: Any) -> ChatMistralAI:
    given = {"model": "mistral-x+unasked", "base_url": provider.openai_url, "max_retries": 1}
    return ChatMistralAI(**{**given, "api_key": "x", **options})


def _gemini(provider: Provider, **options: Any) -> ChatGoogleGenerativeAI:
    given = {"model": "gemini-x", "base_url": provider.url, "max_retries": 1}
    return ChatGoogleGenerativeAI(**{**given, "google_api_key": "x", **options})


def _gemini_completions(provider: Provider, **options: Any) -> GoogleGenerativeAI:
    given = {"model": "gemini-x", "base_url": provider.url, "max_retries": 1}
    return GoogleGenerativeAI(**{**given, "google_api_key": "x", **options})


def _ollama(provider: Provider, **options: Any) -> ChatOllama:
    return ChatOllama(**{"model": "llama", "base_url": provider.url, **options})


def _ollama_completions(provider: Provider, **options: Any) -> OllamaLLM:
    return OllamaLLM(**{"model": "llama", "base_url": provider.url, **options})


def _converse(provider: Provider, **options: Any) -> ChatBedrockConverse:
    given = {"model": "anthropic.claude-x", "provider": "anthropic", "disable_streaming": False}
    return ChatBedrockConverse(**{**_signed(provider), **given, **options})


def _bedrock(provider: Provider, **options: Any) -> ChatBedrock:
    given = {"model": "anthropic.claude-x", "provider": "anthropic"}
    return ChatBedrock(**{**_signed(provider), **given, **options})


def _bedrock_completions(provider: Provider, **options: Any) -> BedrockLLM:
    return BedrockLLM(**{**_signed(provider), "model": "amazon.titan-x", **options})


def _signed(provider: Provider) -> dict[str, Any]:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    return {**keys, "region_name": "us-east-1", "endpoint_url": provider.url}


def _keyed(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, "api_key": "x", "max_retries": 0, **options}


CLIENTS: Final[Mapping[str, Client]] = {
    "openai": _openai,
    "responses": _responses,
    "azure": _azure,
    "completions": _completions,
    "xai": _xai,
    "deepseek": _deepseek,
    "groq": _groq,
    "mistral": _mistral,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "gemini completions": _gemini_completions,
    "ollama": _ollama,
    "ollama completions": _ollama_completions,
    "converse": _converse,
    "bedrock": _bedrock,
    "bedrock completions": _bedrock_completions,
}
"""Made of the provider and options of the model's own; each has a model that answers well."""
