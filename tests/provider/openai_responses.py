"""OpenAI's responses.

Source: https://platform.openai.com/docs/api-reference/responses, and openai 3.54.0,
`types/responses/`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from .calls import Call, Frame, without_none
from .openai_chat import error
from .samples import sample_of

__all__ = ["answer", "error", "error_frame", "frames", "usage_of"]


def usage_of(call: Call) -> dict[str, Any]:
    """`usage`."""
    said = call.numbers()
    return without_none(
        {
            "input_tokens": said.input,
            "output_tokens": said.output,
            "total_tokens": said.total,
            "input_tokens_details": without_none(
                {"cached_tokens": said.cached, "cache_write_tokens": said.written or None}
            ),
            "output_tokens_details": {"reasoning_tokens": said.reasoning},
        }
    )


def answer(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer, and its text."""
    item = _item(call)
    text = item["arguments"] if "arguments" in item else item["content"][0]["text"]
    return _response(call, _status(call), [item]), text


def frames(call: Call) -> Iterator[Frame]:
    """The events of a stream."""
    number = itertools.count()

    def event(kind: str, *of: Any, tells: bool = False, **fields: Any) -> Frame:
        body = {"type": kind, "sequence_number": next(number), **fields}
        return Frame(f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode(), *of, tells)

    begun = _response(call, "in_progress", [])
    yield event("response.created", "", 0, response=begun)
    yield event("response.in_progress", "", 0, response=begun)
    item = _item(call)
    place = {"output_index": 0, "item_id": item["id"]}
    if "arguments" in item:
        text = item["arguments"]
        empty: dict[str, Any] = {**item, "arguments": "", "status": "in_progress"}
        yield event("response.output_item.added", "", 0, output_index=0, item=empty)
        kind = "response.function_call_arguments"
        yield event(f"{kind}.delta", text, call.output, **place, delta=text)
        yield event(f"{kind}.done", "", 0, **place, name=item["name"], arguments=text)
    else:
        part = item["content"][0]
        text = part["text"]
        place["content_index"] = 0
        empty = {**item, "content": [], "status": "in_progress"}
        yield event("response.output_item.added", "", 0, output_index=0, item=empty)
        yield event("response.content_part.added", "", 0, **place, part={**part, "text": ""})
        kind = "response.output_text"
        for piece in call.pieces(text):
            delta = {"delta": piece.text, "logprobs": []}
            yield event(f"{kind}.delta", piece.text, piece.tokens, **place, **delta)
        yield event(f"{kind}.done", "", 0, **place, text=text, logprobs=[])
        yield event("response.content_part.done", "", 0, **place, part=part)
    yield event("response.output_item.done", "", 0, output_index=0, item=item)
    status = _status(call)
    tells = not call.has("nousage")
    response = _response(call, status, [item])
    yield event(f"response.{status}", "", 0, tells=tells, response=response)


def error_frame(call: Call) -> Frame:
    """An error in the middle of a stream."""
    body = {"type": "error", "code": "server_error", "message": "no", "param": None}
    return Frame(f"event: error\ndata: {json.dumps({**body, 'sequence_number': 99})}\n\n".encode())


def _status(call: Call) -> str:
    if call.has("failed"):
        return "failed"
    return "incomplete" if call.has("length", "filter") else "completed"


def _response(call: Call, status: str, output: list[Mapping[str, Any]]) -> dict[str, Any]:
    is_over = status != "in_progress"
    reason = "content_filter" if call.has("filter") else "max_output_tokens"
    return {
        "id": f"resp_{call.name}",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "error": {"code": "server_error", "message": "no"} if status == "failed" else None,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": call.served,
        "output": output,
        "parallel_tool_calls": True,
        "service_tier": "flex" if call.has("flex") else "default",
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage_of(call) if is_over and not call.has("nousage") else None,
    }


def _item(call: Call) -> dict[str, Any]:
    """The message of an answer, or the tool it calls."""
    tools = call.body.get("tools")
    asked = call.body.get("input")
    last = asked[-1] if isinstance(asked, list) and asked else {}
    if tools and call.has("tools") and last.get("type") != "function_call_output":
        return {
            "id": f"fc_{call.name}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{call.name}",
            "name": tools[0]["name"],
            "arguments": sample_of(tools[0].get("parameters") or {}),
        }
    schema = ((call.body.get("text") or {}).get("format") or {}).get("schema")
    text = None if schema is None else sample_of(schema)
    said = "".join(piece.text for piece in call.pieces(text))
    part = {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
    item = {"id": f"msg_{call.name}", "type": "message", "status": "completed"}
    return {**item, "role": "assistant", "content": [part]}
