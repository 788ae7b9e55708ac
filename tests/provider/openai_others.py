"""OpenAI's older completions, and its embeddings.

Source: https://platform.openai.com/docs/api-reference/completions and `/embeddings`, and openai
3.54.0, `types/completion.py` and `types/create_embedding_response.py`.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

from .calls import Call, Frame, without_none
from .openai_chat import error, usage_of

__all__ = ["completion", "completion_frames", "embedding", "error", "error_frame"]


def completion(call: Call) -> tuple[dict[str, Any], str]:
    """The body of a completion, of as many prompts as there are, and its text."""
    count = _choices(call)
    pieces = [piece.text for piece in call.pieces()]
    choices = [
        {
            "index": index,
            "text": "".join(pieces[index::count]),
            "logprobs": None,
            "finish_reason": "length" if call.has("length") else "stop",
        }
        for index in range(count)
    ]
    usage = {} if call.has("nousage") else {"usage": usage_of(call)}
    return {**_head(call), "choices": choices, **usage}, "".join(pieces)


def completion_frames(call: Call) -> Iterator[Frame]:
    """The chunks of a streamed completion."""
    count = _choices(call)
    for i, piece in enumerate(call.pieces()):
        choice = {"index": i % count, "text": piece.text, "logprobs": None, "finish_reason": None}
        yield _frame({**_head(call), "choices": [choice]}, piece.text, piece.tokens)
    last = {"text": "", "logprobs": None, "finish_reason": "stop"}
    yield _frame({**_head(call), "choices": [{"index": i, **last} for i in range(count)]})
    if (call.body.get("stream_options") or {}).get("include_usage") and not call.has("nousage"):
        yield _frame({**_head(call), "choices": [], "usage": usage_of(call)}, tells=True)
    yield Frame(b"data: [DONE]\n\n")


def error_frame(call: Call) -> Frame:
    """An error in the middle of a stream."""
    return _frame({**_head(call), "choices": [], **error(call, 502)})


def embedding(call: Call) -> tuple[dict[str, Any], str]:
    """The body of an answer to a request for embeddings; there is no text in it."""
    asked = call.body.get("input")
    is_one = isinstance(asked, str) or (isinstance(asked, list) and asked[:1] and _is_token(asked))
    filling = [0.0123456789] * ((call.body.get("dimensions") or 3) - 3)
    vector = [0.25, 0.5, *filling, float(call.entry.number)]
    told: Any = vector
    if call.body.get("encoding_format") == "base64":
        told = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    data = [
        {"object": "embedding", "index": index, "embedding": told}
        for index in range(1 if is_one else len(asked or ()))
    ]
    said = call.numbers(0)
    usage = without_none({"prompt_tokens": said.input, "total_tokens": said.total})
    body: dict[str, Any] = {"object": "list", "data": data, "model": call.served}
    if call.base.startswith("mistral"):
        body["id"] = call.name
    return (body if call.has("nousage") else {**body, "usage": usage}), ""


def _is_token(asked: list[Any]) -> bool:
    return isinstance(asked[0], int)


def _choices(call: Call) -> int:
    asked = call.body.get("prompt")
    prompts = len(asked) if isinstance(asked, list) else 1
    return prompts * int(call.body.get("n") or 1)


def _head(call: Call) -> dict[str, Any]:
    head = {"id": f"cmpl-{call.name}", "object": "text_completion", "created": 1_790_000_000}
    return {**head, "model": call.served}


def _frame(body: dict[str, Any], text: str = "", tokens: int = 0, *, tells: bool = False) -> Frame:
    return Frame(f"data: {json.dumps(body)}\n\n".encode(), text, tokens, tells)
