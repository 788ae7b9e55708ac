"""LlamaIndex's embeddings of the real integrations, pointed at the fake provider, and some of ours.

What the provider shall do stands behind the name of the model, as everywhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field

from tests.provider.client import Provider

__all__ = [
    "EMBEDDERS",
    "WAYS",
    "HttpEmbedding",
    "LocalEmbedding",
    "every_way",
    "http",
    "local",
    "named",
    "several",
]

Vector = list[float]


def _openai(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.embeddings.openai import OpenAIEmbedding

    given = {"api_base": provider.openai_url, "api_key": "x", "max_retries": 0}
    return OpenAIEmbedding(model_name=_named(behaviour), **{**given, **options})


def _ollama(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.embeddings.ollama import OllamaEmbedding

    return OllamaEmbedding(model_name=_named(behaviour), base_url=provider.url, **options)


def _cohere(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.embeddings.cohere import CohereEmbedding
    from llama_index.embeddings.cohere.base import VALID_MODEL_EMBEDDING_TYPES as KINDS
    from llama_index.embeddings.cohere.base import VALID_MODEL_INPUT_TYPES as INPUTS

    name = _named(behaviour)
    KINDS.setdefault(name, ["float"])
    INPUTS.setdefault(name, [None])
    given = {"base_url": provider.url, "api_key": "x", "max_retries": 1}
    return CohereEmbedding(model_name=name, **{**given, **options})


def _mistral(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.embeddings.mistralai import MistralAIEmbedding
    from mistralai.client import Mistral

    name = f"mistral-{_named(behaviour)}"
    embedding = MistralAIEmbedding(model_name=name, api_key="x", **options)
    # It takes no address.
    embedding._client = Mistral(api_key="x", server_url=provider.url)
    return embedding


def _gemini(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    from llama_index.embeddings.google_genai import GoogleGenAIEmbedding

    given = {"http_options": {"base_url": provider.url}, "api_key": "x", "retries": 1}
    return GoogleGenAIEmbedding(model_name=_named(behaviour), **{**given, **options})


class _Bedrock(BaseEmbedding):
    """Asks Titan as llama-index-embeddings-bedrock 0.9.0 does, one text a request."""

    client: Any

    def _get_text_embedding(self, text: str) -> Vector:
        body = json.dumps({"inputText": text})
        answer = self.client.invoke_model(body=body, modelId=self.model_name)
        vector: Vector = json.loads(answer["body"].read())["embedding"]
        return vector

    def _get_query_embedding(self, query: str) -> Vector:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> Vector:
        return self._get_text_embedding(query)


def _bedrock(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    import boto3

    secrets = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    client = boto3.client("bedrock-runtime", endpoint_url=provider.url, **secrets)
    name = "+".join(["amazon.titan-embed-x", *filter(None, [behaviour])])
    return _Bedrock(model_name=name, client=client, **options)


def _bedrock_body(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    return _bedrock(provider, "+".join(["noheaders", *filter(None, [behaviour])]), **options)


class HttpEmbedding(BaseEmbedding):
    """An integration of the user's own, which asks the provider with httpx.

    What a text has behind a bar is what the provider shall do: `hello|refuse400`.
    """

    url: str
    each: bool = False
    """Whether a text is a request, though they are given together."""
    dimensions: int | None = None
    signs_in: bool = False
    """Whether it asks for something else before."""

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        if self.signs_in:
            self._ask("/invocations", {"inputs": "who am I"})
        if self.each:
            return [self._embed([text])[0] for text in texts]
        return self._embed(texts)

    def _embed(self, texts: list[str]) -> list[Vector]:
        behaviours = [text.partition("|")[2] for text in texts]
        model = "+".join([self.model_name, *filter(None, behaviours)])
        body = {"model": model, "input": texts, "dimensions": self.dimensions}
        answer = self._ask("/v1/embeddings", body)
        return [each["embedding"] for each in answer["data"]]

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = httpx.post(self.url + path, json=body, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def _get_text_embedding(self, text: str) -> Vector:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> Vector:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> Vector:
        return (await self._aget_text_embeddings([query]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Vector]:
        behaviours = [text.partition("|")[2] for text in texts]
        model = "+".join([self.model_name, *filter(None, behaviours)])
        async with httpx.AsyncClient(timeout=20) as client:
            answer = await client.post(
                f"{self.url}/v1/embeddings", json={"model": model, "input": texts}
            )
        answer.raise_for_status()
        return [each["embedding"] for each in answer.json()["data"]]


class LocalEmbedding(BaseEmbedding):
    """A model on this machine: it asks nobody."""

    asked: list[str] = Field(default_factory=list)

    def _get_text_embedding(self, text: str) -> Vector:
        self.asked.append(text)
        return [float(len(text))]

    def _get_query_embedding(self, query: str) -> Vector:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> Vector:
        return self._get_text_embedding(query)


def _http(provider: Provider, behaviour: str = "", **options: Any) -> Any:
    given = {"model_name": _named(behaviour), "url": provider.url}
    return HttpEmbedding(**{**given, **options})


def _named(behaviour: str) -> str:
    return f"embed-x+{behaviour}" if behaviour else "embed-x"


EMBEDDERS: Final[Mapping[str, Callable[..., Any]]] = {
    "openai": _openai,
    "ollama": _ollama,
    "cohere": _cohere,
    "mistral": _mistral,
    "bedrock": _bedrock,
    "bedrock_body": _bedrock_body,
    "http": _http,
    "gemini": _gemini,
}
"""Made of the provider, what it shall do, and options of the integration's own."""


def query(embedding: BaseEmbedding, texts: list[str]) -> list[Vector]:
    """A question."""
    return [embedding.get_query_embedding(text) for text in texts[:1]]


def aquery(embedding: BaseEmbedding, texts: list[str]) -> list[Vector]:
    """A question, in an event loop."""
    return [asyncio.run(embedding.aget_query_embedding(text)) for text in texts[:1]]


def text(embedding: BaseEmbedding, texts: list[str]) -> list[Vector]:
    """A text."""
    return [embedding.get_text_embedding(text) for text in texts[:1]]


def atext(embedding: BaseEmbedding, texts: list[str]) -> list[Vector]:
    """A text, in an event loop."""
    return [asyncio.run(embedding.aget_text_embedding(text)) for text in texts[:1]]


def batch(embedding: BaseEmbedding, texts: list[str]) -> list[Vector]:
    """Texts, in batches."""
    return embedding.get_text_embedding_batch(texts)


def abatch(embedding: BaseEmbedding, texts: list[str]) -> list[Vector]:
    """Texts, in batches at the same time."""
    return asyncio.run(embedding.aget_text_embedding_batch(texts))


def workers(embedding: BaseEmbedding, texts: list[str]) -> list[Vector]:
    """Texts, in batches of which two are asked for at the same time."""
    embedding.num_workers = 2
    return asyncio.run(embedding.aget_text_embedding_batch(texts))


WAYS: Final = {
    "query": query,
    "aquery": aquery,
    "text": text,
    "atext": atext,
    "batch": batch,
    "abatch": abatch,
    "workers": workers,
}


def several(count: int, subject: str = "acme") -> list[str]:
    """Texts, each of which tells the provider whom it works for."""
    return [f"text {number} [subject:{subject}]" for number in range(count)]


NEEDS: Final = {
    "cohere": "cohere_embeddings",
    "mistral": "mistralai_embeddings",
    "ollama": "ollama_embeddings_0_8",
    "gemini": "google_genai_embeddings",
}


def named(*names: str) -> pytest.MarkDecorator:
    """A parameter `name` for embeddings, each where its integration is installed."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.needs(NEEDS[name]) if name in NEEDS else ())
            for name in names
        ],
    )


every_way = pytest.mark.parametrize("way", WAYS)


def http(provider: Provider, **options: Any) -> Any:
    """An embedding of the user's own."""
    return EMBEDDERS["http"](provider, **options)


def local(**options: Any) -> LocalEmbedding:
    """One on this machine."""
    return LocalEmbedding(model_name="local-x", **options)
