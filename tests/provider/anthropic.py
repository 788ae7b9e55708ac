"""Anthropic's messages.

Source: https://docs.anthropic.com/en/api/messages and `messages-streaming`, and anthropic 2.12.0,
`types/usage.py`. The counts of cached tokens are no parts of `input_tokens` there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .calls import Call, Frame, without_none
from .samples import sample_of, value_of

__all__ = ["answer", "error", "error_frame", "frames", "usage_of"]


def usage_of(call: Call, output: int | None = None) -> dict[str, Any]:
    """`usage`, of the whole message or of as many tokens of output."""
    said = call.numbers(output)
    usage = {
        "input_tokens": None if said.input is None else _exclusive(call, said.input),
        "output_tokens": said.output,
        "cache_read_input_tokens": call.cached,
        "cache_creation_input_tokens": call.written,
    }
    if call.has("cache"):
        usage["cache_creation"] = {
            "ephemeral_5m_input_tokens": call.written_5m,
            "ephemeral_1h_input_tokens": call.written_1h + (7 if call.has("contradict") else 0),
        }
    return without_none(usage)


def _exclusive(call: Call, count: Any) -> Any:
    if isinstance(count, str):
        return str(int(count) - call.cached - call.written)
    return count - call.cached - call.written


def answer(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer, and its text."""
    block, text = _block(call)
    usage = {} if call.has("nousage") else {"usage": usage_of(call)}
    ending = {"stop_reason": _stop_reason(call, block), "stop_sequence": None}
    return {**_head(call), "content": [block], **ending, **usage}, text


def frames(call: Call) -> Iterator[Frame]:
    """The events of a stream."""
    block, text = _block(call)
    begun: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    if not call.has("nousage"):
        begun["usage"] = usage_of(call, 1)
    yield _frame("message_start", {"message": {**_head(call), **begun}})
    is_tool = block["type"] == "tool_use"
    empty = {**block, "input": {}} if is_tool else {**block, "text": ""}
    yield _frame("content_block_start", {"index": 0, "content_block": empty})
    yield _frame("ping", {})
    so_far = 0
    for piece in call.pieces(text):
        kind, key = ("input_json_delta", "partial_json") if is_tool else ("text_delta", "text")
        body = {"index": 0, "delta": {"type": kind, key: piece.text}}
        yield _frame("content_block_delta", body, piece.text, piece.tokens)
        so_far = piece.so_far
    yield _frame("content_block_stop", {"index": 0})
    if call.has("twodeltas"):
        yield _delta(call, None, so_far // 2)
    yield _delta(call, _stop_reason(call, block), so_far)
    yield _frame("message_stop", {})


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    kind = "overloaded_error" if status >= 500 else "invalid_request_error"
    return {"type": "error", "error": {"type": kind, "message": "no"}}


def error_frame(call: Call) -> Frame:
    """An error in the middle of a stream."""
    return _frame("error", error(call, 529))


def _delta(call: Call, reason: str | None, output: int) -> Frame:
    body: dict[str, Any] = {"delta": {"stop_reason": reason, "stop_sequence": None}}
    if call.has("nousage"):
        body["usage"] = {"output_tokens": 0}
        return _frame("message_delta", body)
    usage = usage_of(call, output)
    body["usage"] = {"output_tokens": usage["output_tokens"]} if call.has("oldapi") else usage
    return _frame("message_delta", body, tells=output == call.output)


def _frame(
    kind: str, body: dict[str, Any], text: str = "", tokens: int = 0, *, tells: bool = False
) -> Frame:
    data = f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n"
    return Frame(data.encode(), text, tokens, tells)


def _head(call: Call) -> dict[str, Any]:
    head = {"id": f"msg_{call.name}", "type": "message", "role": "assistant"}
    return {**head, "model": call.served}


def _block(call: Call) -> tuple[dict[str, Any], str]:
    """The block of an answer, and its text."""
    tools = call.body.get("tools")
    messages = call.body.get("messages") or [{}]
    last = messages[-1].get("content")
    is_result = isinstance(last, list) and last and last[0].get("type") == "tool_result"
    if tools and call.has("tools") and not is_result:
        schema = tools[0].get("input_schema") or {}
        arguments = value_of(schema, schema)
        block = {"type": "tool_use", "id": f"toolu_{call.name}", "name": tools[0]["name"]}
        return {**block, "input": arguments}, json.dumps(arguments)
    wanted = call.body.get("output_format") or (call.body.get("output_config") or {}).get("format")
    schema = (wanted or {}).get("schema")
    sample = None if schema is None else sample_of(schema)
    text = "".join(piece.text for piece in call.pieces(sample))
    return {"type": "text", "text": text}, text


def _stop_reason(call: Call, block: dict[str, Any]) -> str:
    if call.has("length"):
        return "max_tokens"
    return "tool_use" if block["type"] == "tool_use" else "end_turn"
