"""Cohere's embeddings, v1 and v2, and its reranking.

Source: https://docs.cohere.com/v1/reference/embed and https://docs.cohere.com/reference/rerank, and
cohere 5.21.1, `cohere/types/embed_by_type_response.py`, `api_meta.py` and
`cohere/v2/types/v2rerank_response.py`.
"""

from __future__ import annotations

from typing import Any

from .calls import Call

__all__ = ["embedding", "error", "open_ranking", "ranking"]


def embedding(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer: the tokens stand in the units that are billed, and there alone."""
    texts = call.body.get("texts") or []
    vectors = [[0.25, 0.5, float(call.entry.number)]] * len(texts)
    meta: dict[str, Any] = {"api_version": {"version": "1"}}
    if not call.has("nousage"):
        meta["billed_units"] = {"input_tokens": call.numbers(0).input}
    body = {"id": call.name, "texts": texts, "embeddings": {"float": vectors}, "meta": meta}
    return {**body, "response_type": "embeddings_by_type"}, ""


def ranking(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer to a request to rerank, which is billed by the search unit."""
    documents = len(call.body.get("documents") or ())
    count = min(documents, call.body.get("top_n") or documents)
    results = [
        {"index": index, "relevance_score": 0.5 / (1 + index)}
        for index in reversed(range(documents - count, documents))
    ]
    meta: dict[str, Any] = {"api_version": {"version": "2"}}
    if not call.has("nousage"):
        meta["billed_units"] = {"search_units": call.search_units}
    return {"id": call.name, "results": results, "meta": meta}, ""


def open_ranking(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer of a server that ranks as NVIDIA's do, and counts tokens as OpenAI's.

    Source of the rankings: llama-index-postprocessor-nvidia-rerank 0.7.0, `base.py`.
    """
    rankings = [{"index": index, "logit": 0.5} for index in range(len(call.body["input"]))]
    usage = {"prompt_tokens": call.input, "total_tokens": call.input}
    return {"rankings": rankings, "usage": usage}, ""


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    return {"id": call.name, "message": "no"}
