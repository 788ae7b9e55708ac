"""OpenAI's chat completions, as many others speak them too.

Source: https://platform.openai.com/docs/api-reference/chat, and openai 3.54.0, `types/chat/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .calls import Call, Frame, without_none
from .samples import sample_of

__all__ = ["answer", "error", "error_frame", "frames", "usage_of"]


def usage_of(call: Call, output: int | None = None) -> dict[str, Any]:
    """`usage`, of the whole call or of as many tokens of output."""
    said = call.numbers(output)
    hidden = said.reasoning if call.has("xai") else 0
    return without_none(
        {
            "prompt_tokens": said.input,
            "completion_tokens": said.output - hidden,
            "total_tokens": said.total,
            "prompt_tokens_details": without_none(
                {"cached_tokens": said.cached, "cache_write_tokens": said.written or None}
            ),
            "completion_tokens_details": {"reasoning_tokens": said.reasoning},
        }
    )


def answer(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer, and its text."""
    count = _choices(call)
    texts, tool_call = _contents(call)
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": None if tool_call else "".join(texts[index::count]),
                **({"tool_calls": [tool_call]} if tool_call else {}),
            },
            "finish_reason": _finish_reason(call, tool_call),
        }
        for index in range(count)
    ]
    usage = {} if call.has("nousage") else {"usage": usage_of(call)}
    return {**_head(call, "chat.completion"), "choices": choices, **usage}, "".join(texts)


def frames(call: Call) -> Iterator[Frame]:
    """The chunks of a stream."""
    count = _choices(call)
    is_asked = bool((call.body.get("stream_options") or {}).get("include_usage"))
    texts, tool_call = _contents(call)
    yield _chunk(call, [{"delta": {"role": "assistant", "content": ""}}], so_far=0)
    for i, piece in enumerate(call.pieces("".join(texts) if texts else None)):
        if tool_call:
            # All of it at once, for all the tokens.
            called = {"index": 0, **tool_call}
            delta: dict[str, Any] = {"tool_calls": [called]}
            text = json.dumps(tool_call["function"])
            yield _chunk(call, [{"delta": delta}], text, call.output, so_far=call.output)
            break
        choice = {"index": i % count, "delta": {"content": piece.text}}
        yield _chunk(call, [choice], piece.text, piece.tokens, so_far=piece.so_far)
    reason = _finish_reason(call, tool_call)
    finish = [{"index": i, "delta": {}, "finish_reason": reason} for i in range(count)]
    usage = None if call.has("nousage") else usage_of(call)
    if call.has("groq") and usage:
        yield _chunk(call, finish, extra={"x_groq": {"id": call.name, "usage": usage}}, tells=True)
    elif call.has("unasked") and usage:
        yield _chunk(call, finish, usage=usage)
    elif call.has("usageinfinish"):
        yield _chunk(call, finish, usage=usage)
        yield _chunk(call, [], usage=usage)
    else:
        yield _chunk(call, finish, so_far=call.output)
        if is_asked:
            yield _chunk(call, [], usage=usage)
    yield Frame(b"data: [DONE]\n\n")


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body: dict[str, Any] = {
        "error": {"message": "no", "type": kind, "param": None, "code": f"code_{status}"}
    }
    return {**body, "usage": usage_of(call, call.entry.output)} if call.has("errusage") else body


def error_frame(call: Call) -> Frame:
    """An error in the middle of a stream, as OpenRouter and Groq send it."""
    body = {**_head(call, "chat.completion.chunk"), "choices": [], **error(call, 502)}
    return _frame(body)


def _chunk(
    call: Call,
    choices: list[dict[str, Any]],
    text: str = "",
    tokens: int = 0,
    *,
    so_far: int | None = None,
    usage: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    tells: bool = False,
) -> Frame:
    """A chunk; `usage` is that of the whole call, `so_far` the output up to it."""
    body = _head(call, "chat.completion.chunk")
    body["choices"] = [{"index": 0, "finish_reason": None, **choice} for choice in choices]
    if usage is not None:
        body["usage"] = usage
        tells = True
    elif so_far is not None and call.has("cumulative"):
        body["usage"] = usage_of(call, so_far)
        tells = so_far == call.output
    return _frame({**body, **(extra or {})}, text, tokens, tells)


def _frame(body: Mapping[str, Any], text: str = "", tokens: int = 0, tells: bool = False) -> Frame:
    return Frame(f"data: {json.dumps(body)}\n\n".encode(), text, tokens, tells)


def _head(call: Call, kind: str) -> dict[str, Any]:
    tier = next((name for name in ("flex", "priority") if call.has(name)), None)
    head = {"id": f"chatcmpl-{call.name}", "object": kind, "created": 1_790_000_000}
    return {**head, "model": call.served, **({"service_tier": tier} if tier else {})}


def _choices(call: Call) -> int:
    return int(call.body.get("n") or 1)


def _contents(call: Call) -> tuple[list[str], dict[str, Any] | None]:
    """The pieces of text of an answer, or the tool it calls."""
    tool = _tool(call)
    if tool is not None:
        function = {"name": tool["name"], "arguments": sample_of(tool.get("parameters") or {})}
        return [], {"id": f"call_{call.name}", "type": "function", "function": function}
    wanted = call.body.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema")
    text = None if schema is None else sample_of(schema)
    return [piece.text for piece in call.pieces(text)], None


def _tool(call: Call) -> Mapping[str, Any] | None:
    tools = call.body.get("tools")
    messages = call.body.get("messages") or [{}]
    if not tools or not call.has("tools") or messages[-1].get("role") == "tool":
        return None
    function: Mapping[str, Any] = tools[0]["function"]
    return function


def _finish_reason(call: Call, tool_call: object) -> str:
    if call.has("length"):
        return "length"
    if call.has("filter"):
        return "content_filter"
    return "tool_calls" if tool_call else "stop"
