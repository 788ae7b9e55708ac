"""Gemini's generateContent, its stream, and its embeddings.

Source: https://ai.google.dev/api/generate-content#UsageMetadata, and google-genai 2.34.0,
`types.py`. Thoughts are no part of `candidatesTokenCount`, tokens of tool results none of
`promptTokenCount`; each chunk of a stream carries the counts up to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .calls import Call, Frame, without_none
from .samples import value_of

__all__ = ["answer", "embedding", "error", "error_frame", "frames", "usage_of"]

_SHRINKING = 30


def usage_of(call: Call, output: int | None = None, *, surplus: int = 0) -> dict[str, Any]:
    """`usageMetadata`, of the whole call or of as many tokens of output."""
    said = call.numbers(output, surplus)
    results = 11 if call.has("toolprompt") else None
    prompt = said.input
    if prompt is not None and results:
        prompt -= results
    return without_none(
        {
            "promptTokenCount": prompt,
            "candidatesTokenCount": said.output - said.reasoning,
            "thoughtsTokenCount": said.reasoning,
            "cachedContentTokenCount": said.cached,
            "toolUsePromptTokenCount": results,
            "totalTokenCount": said.total,
        }
    )


def answer(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer, and its text."""
    count = _candidates(call)
    tool = _tool(call)
    if tool:
        texts, parts = [json.dumps(tool)], [[tool]]
    else:
        texts = [piece.text for piece in call.pieces(_schema_text(call))]
        parts = [[{"text": "".join(texts[index::count])}] for index in range(count)]
    candidates = [
        {
            "index": index,
            "content": {"role": "model", "parts": each},
            "finishReason": "MAX_TOKENS" if call.has("length") else "STOP",
        }
        for index, each in enumerate(parts)
    ]
    return _body(call, candidates, None if call.has("nousage") else usage_of(call)), "".join(texts)


def frames(call: Call) -> Iterator[Frame]:
    """The chunks of a stream."""
    tool = _tool(call)
    text = json.dumps(tool) if tool else _schema_text(call)
    pieces = list(call.pieces(text))
    if tool:
        pieces = [pieces[0]._replace(text=text or "", tokens=call.output, so_far=call.output)]
    for i, piece in enumerate(pieces):
        is_last = i == len(pieces) - 1
        candidate: dict[str, Any] = {
            "index": 0,
            "content": {"role": "model", "parts": [tool or {"text": piece.text}]},
        }
        if is_last:
            candidate["finishReason"] = "MAX_TOKENS" if call.has("length") else "STOP"
        surplus = 0 if is_last else _surplus(call)
        usage = None if call.has("nousage") else usage_of(call, piece.so_far, surplus=surplus)
        body = json.dumps(_body(call, [candidate], usage))
        tells = is_last and usage is not None
        yield Frame(f"data: {body}\r\n\r\n".encode(), piece.text, piece.tokens, tells)


def embedding(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer to a request for embeddings: no usage, as ever, and no text."""
    vector = {"values": [0.25, 0.5, float(call.entry.number)]}
    requests = call.body.get("requests")
    if requests is None:
        return {"embedding": vector}, ""
    return {"embeddings": [vector] * len(requests)}, ""


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED"}
    return {"error": {"code": status, "message": "no", "status": names.get(status, "INTERNAL")}}


def error_frame(call: Call) -> Frame:
    """An error in the middle of a stream."""
    return Frame(f"data: {json.dumps(error(call, 503))}\r\n\r\n".encode())


def _surplus(call: Call) -> int:
    return (call.traits["shrinking"] or _SHRINKING) if call.has("shrinking") else 0


def _body(call: Call, candidates: list[Any], usage: dict[str, Any] | None) -> dict[str, Any]:
    body = {
        "candidates": candidates,
        "modelVersion": call.served,
        "responseId": f"gem-{call.name}",
        "usageMetadata": usage,
    }
    return without_none(body)


def _candidates(call: Call) -> int:
    return int((call.body.get("generationConfig") or {}).get("candidateCount") or 1)


def _schema_text(call: Call) -> str | None:
    config = call.body.get("generationConfig") or {}
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    return None if schema is None else json.dumps(value_of(schema, schema))


def _tool(call: Call) -> dict[str, Any] | None:
    tools = call.body.get("tools")
    last = (call.body.get("contents") or [{}])[-1]
    is_result = any("functionResponse" in part for part in last.get("parts") or ())
    if not tools or not call.has("tools") or is_result:
        return None
    function = tools[0]["functionDeclarations"][0]
    schema = function.get("parametersJsonSchema") or function.get("parameters") or {}
    return {"functionCall": {"name": function["name"], "args": value_of(schema, schema)}}
