"""`guess`: tokens from lengths alone, at once.

OpenAI's help centre: "one token generally corresponds to ~4 characters of text for common English
text". Bytes of UTF-8 instead of characters extend that to other scripts without a table: a letter
of Cyrillic is two bytes and half a token, a Chinese character three bytes and three quarters of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..exchange import Counted, Exchange, Output
from .views import fields

__all__ = ["guess", "tokens_by_length"]

_BYTES_IN_A_TOKEN: Final = 4
_AROUND_A_MESSAGE: Final = 4 * _BYTES_IN_A_TOKEN
_SAMPLE: Final = 32
_MOST_PARTS: Final = 2000
"""A request of more parts is guessed from these: this runs on the application's thread."""

_READ: Final = (
    *("messages", "input", "contents", "prompt", "system", "instructions", "tools"),
    *("systemInstruction", "system_instruction", "chat_history", "message", "preamble"),
    *("functions", "toolConfig", "config", "documents", "inputText", "inputs", "texts"),
    *("requests", "content"),
)
_NOT_READ: Final = frozenset(
    [
        *("type", "id", "call_id", "tool_call_id", "tool_use_id", "toolUseId", "model", "status"),
        *("data", "url", "bytes", "image_url", "file_data", "file_id", "encrypted_content"),
        *("signature", "thoughtSignature", "thought_signature", "cache_control", "images"),
        *("mimeType", "mime_type", "media_type", "format", "$schema"),
    ]
)


def tokens_by_length(text: str) -> int:
    """About how many tokens `text` is."""
    return -(-len(text.encode(errors="surrogatepass")) // _BYTES_IN_A_TOKEN)


def guess(exchange: Exchange) -> Counted:
    """Guess what went into a call and what came out, without reading it.

    It takes a time that grows with the number of messages and tools, not with their length.
    Pictures, sound and files are left out.
    """
    request, output = exchange.request, exchange.output
    try:
        input_tokens = None if request is None else _tokens(_weight(map(request.get, _READ)))
        reasoning = _tokens(sum(map(_bytes, output.reasoning)))
        output_tokens = _tokens(_visible(output)) + reasoning
    except Exception:
        # A request may be code that raises; then nothing is known.
        return Counted(method="characters")
    return Counted(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_output_tokens=reasoning or None,
        method="characters",
    )


def _visible(output: Output) -> float:
    total = sum(map(_bytes, output.texts))
    return total + sum(_bytes(name) + _bytes(text) for name, text in output.tool_calls)


def _weight(values: Iterable[Any]) -> float:
    total = 0.0
    todo = list(values)
    for _ in range(_MOST_PARTS):
        if not todo:
            break
        value = todo.pop()
        if type(value) is str:
            total += len(value) if value.isascii() else _bytes(value)
        elif type(value) is list or type(value) is tuple:
            todo += value
        elif value is not None:
            for name, inner in fields(value).items():
                if name == "role":
                    total += _AROUND_A_MESSAGE
                elif name not in _NOT_READ:
                    todo.append(inner)
    return total


def _bytes(text: str) -> float:
    if text.isascii():
        return len(text)
    middle = len(text) // 2
    sample = text[:_SAMPLE] + text[middle : middle + _SAMPLE] + text[-_SAMPLE:]
    return len(text) * len(sample.encode(errors="surrogatepass")) / len(sample)


def _tokens(weight: float) -> int:
    return -(-int(weight) // _BYTES_IN_A_TOKEN)
