"""Amazon Bedrock: Converse and InvokeModel, and the binary streams of both.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
`…ConverseStream`, `…InvokeModel` (Titan models of text and of embeddings and Anthropic's messages),
https://docs.aws.amazon.com/bedrock/latest/userguide/guardrails-use-invoke-api.html, and for the
streams https://smithy.io/2.0/aws/amazon-eventstream.html. `inputTokens` excludes the cache.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from . import anthropic
from .calls import Call, Frame, without_none

__all__ = [
    "converse",
    "converse_frames",
    "error",
    "error_frame",
    "headers",
    "invoke",
    "invoke_frames",
]

_TEXT: Final = 7  # the type of a header's value


def usage_of(call: Call, output: int | None = None) -> dict[str, Any]:
    """`usage`, of the whole call or of as many tokens of output."""
    said = call.numbers(output)
    details = [
        {"inputTokens": call.written_5m, "ttl": "5m"},
        {"inputTokens": call.written_1h, "ttl": "1h"},
    ]
    return without_none(
        {
            "inputTokens": _exclusive(call),
            "outputTokens": said.output,
            "totalTokens": said.total,
            "cacheReadInputTokens": call.cached,
            "cacheWriteInputTokens": call.written,
            "cacheDetails": details if call.has("cache") else None,
        }
    )


def _exclusive(call: Call) -> int:
    return call.input - call.cached - call.written


def converse(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer, and its text."""
    text = "".join(piece.text for piece in call.pieces())
    message = {"role": "assistant", "content": [{"text": text}]}
    body: dict[str, Any] = {
        "output": {"message": message},
        "stopReason": _stop_reason(call),
        "metrics": {"latencyMs": 7},
    }
    return (body if call.has("nousage") else {**body, "usage": usage_of(call)}), text


def converse_frames(call: Call) -> Iterator[Frame]:
    """The events of a stream."""
    yield Frame(_event("messageStart", {"role": "assistant"}))
    for piece in call.pieces():
        body = {"contentBlockIndex": 0, "delta": {"text": piece.text}}
        yield Frame(_event("contentBlockDelta", body), piece.text, piece.tokens)
    yield Frame(_event("contentBlockStop", {"contentBlockIndex": 0}))
    yield Frame(_event("messageStop", {"stopReason": _stop_reason(call)}))
    body = {"metrics": {"latencyMs": 7}}
    if call.has("nousage"):
        yield Frame(_event("metadata", body))
    else:
        usage = {"usage": usage_of(call)}
        yield Frame(_event("metadata", {**body, **usage}), tells_usage=True)


def invoke(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer in the shape of the model's maker, and its text."""
    if _is_anthropics(call):
        return anthropic.answer(call)
    if call.embeds:
        counts = {} if call.has("nousage") else {"inputTextTokenCount": call.input}
        return {"embedding": [0.25, 0.5, float(call.entry.number)], **counts}, ""
    text = "".join(piece.text for piece in call.pieces())
    reason = "LENGTH" if call.has("length") else "FINISH"
    result = {"tokenCount": call.output, "outputText": text, "completionReason": reason}
    body: dict[str, Any] = {"inputTextTokenCount": call.input, "results": [result]}
    if call.has("guardrail"):
        body["amazon-bedrock-guardrailAction"] = "INTERVENED"
        body["amazon-bedrock-trace"] = {"guardrail": {"input": {}}}
    return body, text


def invoke_frames(call: Call) -> Iterator[Frame]:
    """The events of a stream; the last one has Bedrock's own counts beside the maker's."""
    if _is_anthropics(call):
        for frame in anthropic.frames(call):
            body = json.loads(frame.data.split(b"data: ", 1)[1])
            if body["type"] == "message_stop" and not call.has("nousage"):
                body["amazon-bedrock-invocationMetrics"] = _metrics(call)
            yield frame._replace(data=_chunk(body))
        return
    pieces = list(call.pieces())
    for piece in pieces:
        body = {"index": 0, "outputText": piece.text, "completionReason": None}
        if piece is pieces[-1]:
            body["completionReason"] = "FINISH"
            body["amazon-bedrock-invocationMetrics"] = _metrics(call)
        yield Frame(_chunk(body), piece.text, piece.tokens, piece is pieces[-1])


def headers(call: Call) -> dict[str, str]:
    """What InvokeModel says of the tokens in its headers."""
    counts = {
        "Input": _exclusive(call),
        "Output": call.output,
        "Cache-Read-Input": call.cached,
        "Cache-Write-Input": call.written,
    }
    if call.has("nousage", "noheaders"):
        return {}
    if call.embeds:
        counts = {"Input": call.input}
    return {f"X-Amzn-Bedrock-{name}-Token-Count": str(count) for name, count in counts.items()}


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    return {"message": "no"}


def error_frame(call: Call) -> Frame:
    """An error in the middle of a stream."""
    return Frame(_event("modelStreamErrorException", {"message": "no"}, kind="exception"))


def _is_anthropics(call: Call) -> bool:
    return "anthropic" in call.base


def _metrics(call: Call) -> dict[str, int]:
    return {
        "inputTokenCount": _exclusive(call),
        "outputTokenCount": call.output,
        "cacheReadInputTokenCount": call.cached,
        "cacheWriteInputTokenCount": call.written,
        "invocationLatency": 7,
        "firstByteLatency": 3,
    }


def _stop_reason(call: Call) -> str:
    return "max_tokens" if call.has("length") else "end_turn"


def _chunk(body: Mapping[str, Any]) -> bytes:
    return _event("chunk", {"bytes": base64.b64encode(json.dumps(body).encode()).decode()})


def _event(name: str, body: Mapping[str, Any], kind: str = "event") -> bytes:
    """A message of an event stream: lengths, headers and payload, each with its checksum."""
    fields = {
        f":{kind}-type": name,
        ":content-type": "application/json",
        ":message-type": kind,
    }
    packed = b"".join(
        struct.pack(f"!B{len(key)}sBH{len(value)}s", *_header(key, value))
        for key, value in fields.items()
    )
    payload = json.dumps(body).encode()
    prelude = struct.pack("!II", len(packed) + len(payload) + 16, len(packed))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + packed + payload
    return message + struct.pack("!I", binascii.crc32(message))


def _header(key: str, value: str) -> tuple[int, bytes, int, int, bytes]:
    return len(key), key.encode(), _TEXT, len(value), value.encode()
