"""The texts of a call, as LangChain holds them: what was asked and what was answered.

They are looked at only where nobody reported usage, to be counted; nothing of them is kept.
Read in langchain-core 1.7.2, `langchain_core/messages/` and `langchain_core/outputs/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..exchange import Output

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

__all__ = ["chat_request", "output_of", "piece_text"]

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
    if response is None:
        return Output()
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[tuple[str, str]] = []
    for group in response.generations:
        for generation in group:
            message = getattr(generation, "message", None)
            if message is None:
                texts.append(generation.text)
                continue
            texts.append(_text(message.content, "text"))
            shown = getattr(message, "additional_kwargs", {}).get("reasoning_content")
            reasoning.append(shown if isinstance(shown, str) else _reasoning(message.content))
            calls += map(_tool_call, getattr(message, "tool_calls", ()))
            calls += [
                (call.get("name") or "", call.get("args") or "")
                for call in getattr(message, "invalid_tool_calls", ())
            ]
    return Output(
        texts=[text for text in texts if text],
        reasoning=[text for text in reasoning if text],
        tool_calls=calls,
    )


def piece_text(token: object, chunk: object) -> str | None:
    """The text of a streamed piece; `None` if it holds no output, as the one with the usage does."""
    text = _text(token, "text")
    message = getattr(chunk, "message", None)
    for call in getattr(message, "tool_call_chunks", None) or ():
        text += (call.get("name") or "") + (call.get("args") or "")
    if text:
        return text
    return "" if token else None


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
