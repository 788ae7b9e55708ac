"""The texts of a call, as LangChain holds them: what was asked and what was answered.

They are looked at only where nobody reported usage, to be counted; nothing of them is kept.
Read in langchain-core 1.7.2, `langchain_core/messages/` and `langchain_core/outputs/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..exchange import Output
from .answers import generations_of, mapping

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

__all__ = ["chat_request", "event_text", "output_of", "piece_text"]

_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
_PARAMETERS: Final = ("model", "model_name", "tools", "functions", "response_format", "system")
"""What of the parameters of a call is a part of its prompt, or says how to count it."""


def chat_request(
    messages: Sequence[BaseMessage], parameters: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The request of a chat model in the shape of OpenAI's API."""
    given = parameters or {}
    request = {name: given[name] for name in _PARAMETERS if name in given}
    request["messages"] = [_message(message) for message in messages]
    return request


def _message(message: BaseMessage) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "role": _ROLES.get(message.type, getattr(message, "role", None) or message.type),
        "content": message.content,
    }
    if message.name:
        plain["name"] = message.name
    calls = getattr(message, "tool_calls", None)
    if calls:
        plain["tool_calls"] = [
            {"type": "function", "function": dict(zip(("name", "arguments"), each, strict=True))}
            for each in map(_tool_call, calls)
        ]
    return plain


def _tool_call(call: Mapping[str, Any]) -> tuple[str, str]:
    # Tokens depend on the spacing of the JSON; this is how most models write it.
    return str(call.get("name") or ""), json.dumps(
        call.get("args"), ensure_ascii=False, default=lambda _: ""
    )


def output_of(response: LLMResult | None) -> Output:
    """The answer, of all choices."""
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[tuple[str, str]] = []
    for generation in generations_of(response):
        message = getattr(generation, "message", None)
        if message is None:
            texts.append(_text(getattr(generation, "text", None), "text"))
            continue
        content = getattr(message, "content", None)
        texts.append(_text(content, "text"))
        shown = mapping(getattr(message, "additional_kwargs", None)).get("reasoning_content")
        reasoning.append(shown if isinstance(shown, str) else _reasoning(content))
        calls += map(_tool_call, _mappings(getattr(message, "tool_calls", None)))
        calls += [
            (str(call.get("name") or ""), str(call.get("args") or ""))
            for call in _mappings(getattr(message, "invalid_tool_calls", None))
        ]
    return Output(
        texts=[text for text in texts if text],
        reasoning=[text for text in reasoning if text],
        tool_calls=calls,
    )


def _mappings(values: object) -> list[Mapping[str, Any]]:
    if not isinstance(values, list | tuple):
        return []
    return [value for value in values if isinstance(value, Mapping)]


def piece_text(token: object, message: object) -> str | None:
    """The text of a streamed piece; `None` if it holds no output, as the one with the usage does.

    Args:
        token: The text as LangChain hands it over, or the blocks of the message.
        message: The message of the chunk, if it has one.
    """
    # LangChain's own kind of str, too (`messages/base.py`, `TextAccessor`).
    text = token if isinstance(token, str) else _blocks_text(token)
    calls = getattr(message, "tool_call_chunks", None)
    if calls:
        for call in _mappings(calls):
            for part in (call.get("name"), call.get("args")):
                text += part if isinstance(part, str) else ""
    if text:
        return text
    if message is not None and (extra := getattr(message, "additional_kwargs", None)):
        shown = extra.get("reasoning_content") if isinstance(extra, dict) else None
        if isinstance(shown, str) and shown:
            return shown
    return "" if token else None


def event_text(event: Mapping[str, Any]) -> str | None:
    """The text of an event of a v3 stream; `None` if it holds none.

    Source: langchain-protocol 0.0.20, `langchain_protocol/protocol.py`, `ContentBlockDelta`.
    """
    kind = event.get("event")
    if kind == "content-block-delta":
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return None
        found = delta.get("text") or delta.get("reasoning") or delta.get("args")
        return found if isinstance(found, str) else ""
    if kind == "content-block-start":
        content = event.get("content")
        name = content.get("name") if isinstance(content, dict) else None
        return name if isinstance(name, str) and name else None
    return None


def _blocks_text(blocks: object) -> str:
    """The text of a chunk's blocks, reasoning that is shown included: it is output as well."""
    if not isinstance(blocks, list):
        return ""
    return _text(blocks, "text") + _reasoning(blocks)


def _text(content: object, key: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    pieces = (
        block if isinstance(block, str) else block.get(key) if isinstance(block, dict) else None
        for block in content
    )
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _reasoning(content: object) -> str:
    if isinstance(content, str):
        return ""
    return _text(content, "reasoning") or _text(content, "thinking")
