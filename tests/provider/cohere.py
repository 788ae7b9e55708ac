"""Cohere's embeddings, v1.

Source: https://docs.cohere.com/v1/reference/embed, and cohere 5.21.1,
`cohere/types/embed_by_type_response.py` and `api_meta.py`.
"""

from __future__ import annotations

from typing import Any

from .calls import Call

__all__ = ["embedding", "error"]


def embedding(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer: the tokens stand in the units that are billed, and there alone."""
    texts = call.body.get("texts") or []
    vectors = [[0.25, 0.5, float(call.entry.number)]] * len(texts)
    meta: dict[str, Any] = {"api_version": {"version": "1"}}
    if not call.has("nousage"):
        meta["billed_units"] = {"input_tokens": call.numbers(0).input}
    body = {"id": call.name, "texts": texts, "embeddings": {"float": vectors}, "meta": meta}
    return {**body, "response_type": "embeddings_by_type"}, ""


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    return {"id": call.name, "message": "no"}
