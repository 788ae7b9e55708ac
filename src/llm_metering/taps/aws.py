"""The tap of botocore, for answers of Amazon Bedrock's `InvokeModel`.

Source: botocore 1.44.5, `response.py`, `StreamingBody.read`, and `eventstream.py`,
`EventStream._parse_event`. The answer is a body that is read at once, or a stream of events with a
piece of JSON each. langchain-aws 1.9.1 takes the totals from the headers, leaves the body's own
counts, and fails over bodies of models it does not know (`langchain_aws/llms/bedrock.py`,
`prepare_output`). Answers of `Converse` come parsed, and it hands on what they report.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from .body import Body
from .call import current
from .patch import Patch

__all__ = ["PATCHES"]

_BODY: Final = "_llm_metering_body"
"""The attribute of a stream that says what reads it: a `Body`, or `None` if nothing does."""


def _around_read(theirs: Callable[..., bytes]) -> Callable[..., bytes]:
    @wraps(theirs)
    def read(self: Any, amt: int | None = None) -> bytes:
        chunk = theirs(self, amt)
        try:
            body = _body_of(self)
            if body is not None:
                body.feed(chunk)
                if amt is None or (not chunk and amt):
                    body.end()
        except Exception:
            return chunk
        return chunk

    return read


def _around_parse(theirs: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @wraps(theirs)
    def parse_event(self: Any, event: Any) -> Any:
        parsed = theirs(self, event)
        try:
            body = _body_of(self, is_stream=True)
            if body is not None and "chunk" in parsed:
                body.feed(parsed["chunk"]["bytes"] + b"\n")
        except Exception:
            return parsed
        return parsed

    return parse_event


PATCHES: Final = (
    Patch("botocore.response", "StreamingBody", "read", _around_read),
    Patch("botocore.eventstream", "EventStream", "_parse_event", _around_parse),
)


def _as_chunk(line: bytes) -> object:
    return {"chunk": {"bytes": line}}


def _body_of(stream: Any, *, is_stream: bool = False) -> Body | None:
    known = stream.__dict__
    if _BODY not in known:
        call = current()
        if call is None:
            known[_BODY] = None
        elif is_stream:
            known[_BODY] = call.body(has_lines=True, as_chunk=_as_chunk)
        else:
            headers = getattr(known.get("_raw_stream"), "headers", None)
            known[_BODY] = call.body(has_lines=False, headers=headers)
    body: Body | None = known[_BODY]
    return body
