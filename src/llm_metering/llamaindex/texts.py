"""The texts of a call, as LlamaIndex holds them: what was asked and what was answered.

They are looked at only where nobody reported usage, to be counted; nothing of them is kept.
Read in llama-index-core 0.14.25, `base/llms/types.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..exchange import Output
from ..extract.views import as_list, as_mapping

__all__ = ["chat_request", "output_of"]

_PARAMETERS: Final = ("model", "tools", "functions", "response_format", "system")
"""What of the arguments of a call is a part of its prompt, or says how to count it."""


def chat_request(messages: Sequence[Any], parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The request of a chat model in the shape of OpenAI's API."""
    given = parameters or {}
    request = {name: given[name] for name in _PARAMETERS if name in given}
    request["messages"] = [_message(message) for message in messages]
    return request


def _message(message: Any) -> dict[str, Any]:
    role = getattr(message, "role", None)
    plain: dict[str, Any] = {
        "role": getattr(role, "value", role),
        "content": "".join(_texts_of(message)),
    }
    calls = list(_tool_calls_of(message))
    if calls:
        plain["tool_calls"] = [
            {"type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in calls
        ]
    return plain


def output_of(response: object) -> Output:
    """The answer; of a stream's last piece, which holds all that came before it."""
    message = getattr(response, "message", None)
    if message is None:
        text = getattr(response, "text", None)
        return Output(texts=[text] if isinstance(text, str) and text else [])
    return Output(
        texts=[text for text in _texts_of(message) if text],
        reasoning=[text for text in _reasoning_of(message) if text],
        tool_calls=list(_tool_calls_of(message)),
    )


def _blocks_of(message: Any) -> Iterable[Any]:
    return as_list(getattr(message, "blocks", None))


def _kind(block: Any) -> object:
    return getattr(block, "block_type", None)


def _texts_of(message: Any) -> Iterable[str]:
    for block in _blocks_of(message):
        text = getattr(block, "text", None)
        if _kind(block) == "text" and isinstance(text, str):
            yield text


def _reasoning_of(message: Any) -> Iterable[str]:
    for block in _blocks_of(message):
        content = getattr(block, "content", None)
        if _kind(block) == "thinking" and isinstance(content, str):
            yield content


def _tool_calls_of(message: Any) -> Iterable[tuple[str, str]]:
    """The tools that were called; older integrations have them in `additional_kwargs` alone."""
    found = [
        (str(getattr(block, "tool_name", "")), _json(getattr(block, "tool_kwargs", "")))
        for block in _blocks_of(message)
        if _kind(block) == "tool_call"
    ]
    if found:
        return found
    kwargs = as_mapping(getattr(message, "additional_kwargs", None)) or {}
    for call in as_list(kwargs.get("tool_calls")):
        function = as_mapping((as_mapping(call) or {}).get("function"))
        if function is not None:
            found.append((str(function.get("name") or ""), _json(function.get("arguments"))))
    return found


def _json(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    # Tokens depend on the spacing of the JSON; this is how most models write it.
    return json.dumps(arguments, ensure_ascii=False, default=lambda _: "")
