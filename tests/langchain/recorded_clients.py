"""Which of LangChain's clients speaks to whom, and how to make it speak to a replay server."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from langchain_anthropic import ChatAnthropic
from langchain_aws import BedrockLLM, ChatBedrock, ChatBedrockConverse
from langchain_cohere import ChatCohere
from langchain_deepseek import ChatDeepSeek
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_groq import ChatGroq
from langchain_mistralai import ChatMistralAI
from langchain_ollama import ChatOllama, OllamaLLM
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI

from tests.extract.recorded import Interaction

OPENAI = {
    "model": "recorded",
    "api_key": "x",
    "max_retries": 0,
    "stream_usage": True,
    "default_headers": {"Connection": "close"},
}


def model_for(interaction: Interaction, url: str) -> Any:
    """A LangChain model whose next call gets the recorded answer; `None` if there is no client.

    Args:
        interaction: What was recorded.
        url: The address under which a server replays it.
    """
    make = CLIENTS.get((interaction.provider, interaction.api)) or CLIENTS.get(interaction.api)
    return None if make is None else make(url, interaction)


def _openai(url: str, interaction: Interaction) -> Any:
    if interaction.request["uri"].endswith("/v1/completions"):
        return _completions(url, interaction)
    return ChatOpenAI(base_url=url, **OPENAI)


def _responses(url: str, interaction: Interaction) -> Any:
    return ChatOpenAI(base_url=url, use_responses_api=True, **OPENAI)


def _completions(url: str, interaction: Interaction) -> Any:
    # Not `stream_usage`: the completion model drops the chunk that has it.
    options = {key: value for key, value in OPENAI.items() if key != "stream_usage"}
    return OpenAI(base_url=url, **options)


def _azure(url: str, interaction: Interaction) -> Any:
    return AzureChatOpenAI(
        azure_endpoint=url,
        api_version="2024-10-21",
        use_responses_api=interaction.api == "openai.responses",
        **OPENAI,
    )


def _anthropic(url: str, interaction: Interaction) -> Any:
    return ChatAnthropic(
        base_url=url,
        model="recorded",
        api_key="x",
        max_tokens=8,
        max_retries=0,
        default_headers={"Connection": "close"},
    )


def _gemini(url: str, interaction: Interaction) -> Any:
    return ChatGoogleGenerativeAI(base_url=url, model="recorded", google_api_key="x", max_retries=1)


def _cohere(url: str, interaction: Interaction) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ChatCohere(base_url=url, cohere_api_key="x", model="recorded")


def _mistral(url: str, interaction: Interaction) -> Any:
    return ChatMistralAI(base_url=f"{url}/v1", api_key="x", max_retries=1)


def _ollama(url: str, interaction: Interaction) -> Any:
    is_chat = interaction.request["uri"].endswith("/api/chat")
    return (ChatOllama if is_chat else OllamaLLM)(base_url=url, model="recorded")


def _groq(url: str, interaction: Interaction) -> Any:
    return ChatGroq(base_url=url, model="recorded", api_key="x", max_retries=0)


def _openrouter(url: str, interaction: Interaction) -> Any:
    # It has no version for the oldest langchain-core.
    from langchain_openrouter import ChatOpenRouter

    return ChatOpenRouter(base_url=url, model="recorded", api_key="x", max_retries=0)


def _deepseek(url: str, interaction: Interaction) -> Any:
    options = {key: value for key, value in OPENAI.items() if key != "stream_usage"}
    return ChatDeepSeek(base_url=url, **options)


def _bedrock_client(url: str) -> Any:
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"max_attempts": 0}),
    )


def _converse(url: str, interaction: Interaction) -> Any:
    return ChatBedrockConverse(
        model=_bedrock_model(interaction),
        region_name="us-east-1",
        client=_bedrock_client(url),
        bedrock_client=_bedrock_client(url),
        disable_streaming=False,
    )


def _invoke(url: str, interaction: Interaction) -> Any:
    return ChatBedrock(
        model=_bedrock_model(interaction),
        region_name="us-east-1",
        client=_bedrock_client(url),
        bedrock_client=_bedrock_client(url),
        beta_use_converse_api=False,
    )


def _invoke_text(url: str, interaction: Interaction) -> Any:
    return BedrockLLM(
        model=_bedrock_model(interaction),
        region_name="us-east-1",
        client=_bedrock_client(url),
        bedrock_client=_bedrock_client(url),
    )


def _bedrock_model(interaction: Interaction) -> str:
    return interaction.request["uri"].split("/model/")[1].split("/")[0].replace("%3A", ":")


CLIENTS: dict[object, Callable[[str, Interaction], Any]] = {
    "anthropic.messages": _anthropic,
    "bedrock.converse": _converse,
    "bedrock.converse_stream": _converse,
    "bedrock.invoke": _invoke,
    "bedrock.invoke_llama": _invoke,
    "bedrock.invoke_stream": _invoke_text,
    "bedrock.invoke_titan": _invoke_text,
    "cohere.v2_chat": _cohere,
    "gemini.generate_content": _gemini,
    "ollama": _ollama,
    "openai.chat": _openai,
    "openai.completions": _completions,
    "openai.responses": _responses,
    ("azure-openai", "openai.chat"): _azure,
    ("azure-openai", "openai.responses"): _azure,
    ("deepseek", "openai.chat"): _deepseek,
    ("groq", "openai.chat"): _groq,
    ("mistral", "openai.chat"): _mistral,
    ("openrouter", "openai.chat"): _openrouter,
}
