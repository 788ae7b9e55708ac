"""Ollama's chat, generate and embed.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md, and ollama 0.6.3, `_types.py`. A
prompt that is in its cache may have no `prompt_eval_count`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .calls import Call, Frame, without_none
from .samples import value_of

__all__ = ["answer", "embedding", "error", "error_frame", "frames"]


def answer(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer that is not streamed, and its text."""
    tool = _tool(call)
    text = "" if tool else "".join(piece.text for piece in call.pieces(_text(call)))
    return {**_part(call, text, tool), **_ending(call)}, text or json.dumps(tool)


def frames(call: Call) -> Iterator[Frame]:
    """The lines of a stream."""
    tool = _tool(call)
    if tool:
        yield _line({**_part(call, "", tool), "done": False}, json.dumps(tool), call.output)
    else:
        for piece in call.pieces(_text(call)):
            body = {**_part(call, piece.text, None), "done": False}
            yield _line(body, piece.text, piece.tokens)
    tells = not call.has("nousage")
    yield _line({**_part(call, "", None), **_ending(call)}, tells=tells)


def embedding(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer to a request for embeddings; there is no text in it."""
    asked = call.body.get("input")
    count = 1 if isinstance(asked, str) else len(asked or ())
    body: dict[str, Any] = {"model": call.entry.model, "prompt_eval_count": call.numbers(0).input}
    return {**body, "embeddings": [[0.25, 0.5, float(call.entry.number)]] * count}, ""


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    return {"error": "no"}


def error_frame(call: Call) -> Frame:
    """An error in the middle of a stream."""
    return _line({"error": "no"})


def _line(body: dict[str, Any], text: str = "", tokens: int = 0, *, tells: bool = False) -> Frame:
    return Frame(json.dumps(body).encode() + b"\n", text, tokens, tells)


def _part(call: Call, text: str, tool: dict[str, Any] | None) -> dict[str, Any]:
    # Ollama names the model as it was asked for.
    head = {"model": call.entry.model, "created_at": "2026-11-22T08:00:00.000000Z"}
    if call.entry.path.endswith("/generate"):
        return {**head, "response": text}
    message = {"role": "assistant", "content": text, "tool_calls": [tool] if tool else None}
    return {**head, "message": without_none(message)}


def _ending(call: Call) -> dict[str, Any]:
    said = call.numbers()
    counts: dict[str, Any] = {"prompt_eval_count": said.input, "eval_count": said.output}
    if call.has("nocache"):
        del counts["prompt_eval_count"]
    if call.has("nousage"):
        counts = {}
    reason = "length" if call.has("length") else "stop"
    times = {"total_duration": 9_000_000, "load_duration": 1_000_000, "eval_duration": 5_000_000}
    return {"done": True, "done_reason": reason, **times, **without_none(counts)}


def _text(call: Call) -> str | None:
    schema = call.body.get("format")
    return json.dumps(value_of(schema, schema)) if isinstance(schema, dict) else None


def _tool(call: Call) -> dict[str, Any] | None:
    tools = call.body.get("tools")
    messages = call.body.get("messages") or [{}]
    if not tools or not call.has("tools") or messages[-1].get("role") == "tool":
        return None
    function = tools[0]["function"]
    schema = function.get("parameters") or {}
    return {"function": {"name": function["name"], "arguments": value_of(schema, schema)}}
