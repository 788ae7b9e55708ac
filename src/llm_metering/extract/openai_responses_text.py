"""The text of OpenAI's responses, whole and in events.

Source: openai 3.54.0, `openai/types/responses/response_output_item.py` and
`response_stream_event.py`. Each event has a `type`; those that begin, end or change the state of a
response hold the response as far as it is, the last one with its usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..exchange import Output
from .assembly import Pieces, supersedes
from .reading import NOTHING
from .views import as_list, as_mapping, copy_of

__all__ = ["Stream", "matches_chunk", "output"]

_COUNTS: Final = ("input_tokens", "output_tokens", "total_tokens")
_LAST: Final = frozenset(["completed", "failed", "incomplete", "done", "cancelled"])
_TEXT: Final = frozenset(
    [
        "output_text.delta",
        "refusal.delta",
        "audio.transcript.delta",
        "output_audio_transcript.delta",
    ]
)
_REASONING: Final = frozenset(["reasoning_text.delta", "reasoning_summary_text.delta"])
_ARGUMENTS: Final = frozenset(
    ["function_call_arguments.delta", "mcp_call_arguments.delta", "custom_tool_call_input.delta"]
)


def output(body: Mapping[str, Any]) -> Output:
    """What a response answers."""
    pieces = Pieces()
    inner = body.get("response")
    body = body if inner is None else as_mapping(inner) or NOTHING
    for index, each in enumerate(as_list(body.get("output"))):
        item = as_mapping(each) or NOTHING
        is_reasoning = item.get("type") == "reasoning"
        for part in (*as_list(item.get("content")), *as_list(item.get("summary"))):
            fields = as_mapping(part) or NOTHING
            if is_reasoning:
                pieces.reasoning(fields.get("text"), index)
            else:
                text = fields.get("text") or fields.get("refusal") or fields.get("transcript")
                pieces.text(text, index)
        if "call_id" in item or "arguments" in item:
            arguments = item.get("arguments") or item.get("input")
            pieces.tool_call(index, name=item.get("name"), arguments=arguments)
    return pieces.output()


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is of a stream of this shape."""
    kind = chunk.get("type")
    return isinstance(kind, str) and kind.startswith("response.")


class Stream:
    """Keeps the last state of the response that the events tell of, and the text they bring."""

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._body: Mapping[str, Any] = {"object": "response"}
        self._pieces = Pieces()

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        kind = chunk.get("type")
        if not isinstance(kind, str):
            return
        kind = kind.removeprefix("response.")
        if (response := chunk.get("response")) is not None:
            self._state(kind, as_mapping(response) or NOTHING)
        elif kind in _TEXT:
            self._pieces.text(chunk.get("delta"), _place(chunk))
        elif kind in _ARGUMENTS:
            self._pieces.tool_call(_place(chunk)[0], arguments=chunk.get("delta"))
        elif kind in _REASONING:
            self._pieces.reasoning(chunk.get("delta"), _place(chunk))
        elif kind == "output_item.added":
            item = as_mapping(chunk.get("item")) or NOTHING
            if "call_id" in item or "arguments" in item:
                self._pieces.tool_call(_place(chunk)[0], name=item.get("name"))

    def body(self) -> Mapping[str, Any]:
        return self._body

    def output(self) -> Output:
        return self._pieces.output()

    def _state(self, kind: str, response: Mapping[str, Any]) -> None:
        known, name = self._body.get("id"), response.get("id")
        if known and name and known != name:
            self.has_several = True
        if self.has_ended or not response:
            return
        reported, usage = as_mapping(response.get("usage")), self._body.get("usage")
        is_news = reported is not None and supersedes(reported, usage, _COUNTS)
        body = {"object": "response", **response}
        if reported is not None:
            body["usage"] = copy_of(reported) if is_news else usage
        self._body = body
        self.has_ended = kind in _LAST
        self.is_final = self.has_ended and (
            is_news or (reported is None and bool(body.get("usage")))
        )


def _place(chunk: Mapping[str, Any]) -> tuple[object, object]:
    """Which piece of the answer an event belongs to."""
    output, content = chunk.get("output_index"), chunk.get("content_index")
    item = chunk.get("item_id")
    return (
        output if type(output) is int else item if isinstance(item, str) else 0,
        content if type(content) is int else 0,
    )
