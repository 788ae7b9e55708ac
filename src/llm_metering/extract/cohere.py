"""Usage of Cohere's API, v1 and v2: chat, generate, embed, rerank, classify.

Source: cohere 7.3.1, `cohere/types/usage.py`, `usage_tokens.py`, `usage_billed_units.py`,
`api_meta.py`, `api_meta_billed_units.py`, `non_streamed_chat_response.py`,
`cohere/v2/types/v2chat_response.py`, `v2chat_stream_response.py`.

Inclusive: `tokens.input_tokens` holds the `cached_tokens`. Cohere bills `billed_units`, which are
fewer: what it adds to a prompt by itself is in `tokens` alone. `usage` is `tokens`, what is billed
stands beside it. Embeddings report billed units only, which are their usage too; of images they
count the `image_tokens` beside the `input_tokens`
(https://github.com/cohere-ai/cohere-python/issues/711). Rerank and classify are billed by the
search and by the classification, and have no tokens at all.

Cohere's SDK sends every count as a float.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from ..errors import InvalidUsageError, UnknownUsageError
from ..exchange import Output
from ..token_usage import TokenUsage
from .assembly import Pieces
from .flags import INVALID_USAGE
from .measures import numbers
from .native import add, as_json, attempt, first, inside, whole
from .reading import NOTHING, Reading, name_of
from .views import as_list, as_mapping, copy_of

__all__ = ["PROVIDER", "Stream", "extract_usage", "matches_chunk", "output", "read"]

PROVIDER: Final = "cohere"

_UNITS: Final = ("search_units", "classifications", "images")
_REPORTS: Final = frozenset(["tokens", "billed_units"])
_META: Final = _REPORTS | {"api_version"}
_FAILURES: Final = frozenset(["ERROR", "ERROR_TOXIC", "TIMEOUT"])
_OPERATIONS: Final = {
    "embeddings": "embeddings",
    "generations": "text_completion",
    "results": "rerank",
    "classifications": "classify",
}
_EVENTS_V1: Final = frozenset(
    [
        *("stream-start", "search-queries-generation", "search-results", "text-generation"),
        *("citation-generation", "tool-calls-generation", "tool-calls-chunk", "stream-end"),
    ]
)
_EVENTS_V2: Final = frozenset(
    [
        *("message-start", "content-start", "content-delta", "content-end", "tool-plan-delta"),
        *("tool-call-start", "tool-call-delta", "tool-call-end", "citation-start"),
        *("citation-end", "message-end"),
    ]
)


def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of an answer of v2, or the `meta` of v1.

    Raises:
        UnknownUsageError: If it is not in this shape, or every count of tokens in it is null.
        InvalidUsageError: If one of its counts is no count.
    """
    return _counts(usage, embeds=False)


def _counts(usage: Mapping[str, Any], *, embeds: bool) -> TokenUsage:
    counted = inside(usage.get("tokens"))
    input_tokens = whole(counted.get("input_tokens"))
    output_tokens = whole(counted.get("output_tokens"))
    images = None
    if input_tokens is None and output_tokens is None:
        billed = inside(usage.get("billed_units"))
        input_tokens, images = _billed_input(billed)
        output_tokens = whole(billed.get("output_tokens"))
    if input_tokens is None and output_tokens is None:
        raise UnknownUsageError(PROVIDER, keys=sorted(map(str, usage)))
    if embeds and output_tokens is None:
        output_tokens = 0
    return TokenUsage(
        input_tokens=add(input_tokens),
        output_tokens=add(output_tokens),
        cache_read_input_tokens=add(whole(usage.get("cached_tokens"))),
        input_image_tokens=images,
        as_reported=True,
    )


def _billed_input(billed: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The input that is billed, and what of it are images."""
    tokens = add(whole(billed.get("input_tokens")))
    images = add(whole(billed.get("image_tokens")))
    texts = add(whole(billed.get("text_tokens")))
    if images is None or (texts is not None and tokens == texts + images):
        return tokens, images
    return add(images, tokens), images


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read an answer, or the last event of a stream; `None` if it is neither."""
    body = _unwrapped(body)
    reported = inside(first(body, "usage", "meta"))
    if (
        _META.isdisjoint(reported)
        and not ("finish_reason" in body and as_mapping(body.get("message")) is not None)
        and not ("generation_id" in body and "text" in body)
    ):
        return None
    operation = next((_OPERATIONS[key] for key in _OPERATIONS if key in body), "chat")
    measures = _measures(inside(reported.get("billed_units")))
    extract = partial(_counts, embeds=operation == "embeddings")
    usage, flags = attempt(extract, body.get("usage", reported))
    if usage is None and INVALID_USAGE not in flags and (measures or "usage" not in body):
        flags = ()  # billed by something else than tokens, or not at all
    reason = body.get("finish_reason")
    failed = isinstance(reason, str) and reason in _FAILURES
    return Reading(
        shape="cohere",
        provider=PROVIDER,
        operation=operation,
        usage=usage,
        response_id=name_of(first(body, "response_id", "generation_id", "id")),
        measures=measures,
        ending="failed" if failed else "completed",
        reason=str(reason) if failed else "",
        flags=flags,
    )


def _unwrapped(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer inside the last event of a stream."""
    if body.get("event_type") == "stream-end":
        return as_mapping(body.get("response")) or body
    if body.get("type") == "message-end":
        end = inside(body.get("delta"))
        return {
            "id": body.get("id"),
            "message": {},
            "finish_reason": end.get("finish_reason"),
            "usage": end.get("usage"),
        }
    return body


def _measures(billed: Mapping[str, Any]) -> Mapping[str, int | float]:
    try:
        input_tokens, _ = _billed_input(billed)
        return numbers(
            billed_input_tokens=input_tokens,
            billed_output_tokens=add(whole(billed.get("output_tokens"))),
            **{name: add(whole(billed.get(name))) for name in _UNITS},
        )
    except InvalidUsageError:
        return NOTHING


def output(body: Mapping[str, Any]) -> Output:
    """The text of an answer."""
    pieces = Pieces()
    pieces.text(body.get("text"))
    for index, each in enumerate(map(inside, as_list(body.get("generations")))):
        pieces.text(each.get("text"), index)
    message = inside(body.get("message"))
    pieces.reasoning(message.get("tool_plan"), "plan")
    for index, each in enumerate(map(inside, as_list(message.get("content")))):
        pieces.text(each.get("text"), index)
        pieces.reasoning(each.get("thinking"), index)
    calls = as_list(message.get("tool_calls")) or as_list(body.get("tool_calls"))
    _take_calls(pieces, calls)
    return pieces.output()


def _take_calls(pieces: Pieces, calls: Iterable[object]) -> None:
    for index, each in enumerate(calls):
        call = inside(each)
        # v2 wraps the function; v1 has it flat, with `parameters`.
        function = as_mapping(call.get("function")) or call
        arguments = as_json(first(function, "arguments", "parameters"))
        pieces.tool_call(index, name=function.get("name"), arguments=arguments)


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is an event of a chat of v1 or v2."""
    old, new = chunk.get("event_type"), chunk.get("type")
    return (isinstance(old, str) and old in _EVENTS_V1) or (
        isinstance(new, str) and new in _EVENTS_V2
    )


class Stream:
    """One stream of a chat, of v1 or of v2."""

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._body: dict[str, Any] = {"message": {}, "finish_reason": None}
        self._has_call_chunks = False
        self._pieces = Pieces()

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        if "event_type" in chunk:
            self._feed_v1(chunk, chunk["event_type"])
        else:
            delta = inside(chunk.get("delta"))
            index = chunk.get("index")
            self._feed_v2(chunk, delta, index if isinstance(index, int) else 0)

    def _feed_v1(self, chunk: Mapping[str, Any], kind: object) -> None:
        if kind == "text-generation":
            self._pieces.text(chunk.get("text"))
        elif kind == "stream-start":
            self.has_several = self.has_several or self.has_ended
            self._body = {"generation_id": chunk.get("generation_id"), "text": ""}
        elif kind == "tool-calls-chunk":
            self._has_call_chunks = True
            call = inside(chunk.get("tool_call_delta"))
            index = whole(call.get("index"))
            index = index if isinstance(index, int) else 0
            self._pieces.reasoning(chunk.get("text"))
            self._pieces.tool_call(index, name=call.get("name"), arguments=call.get("parameters"))
        elif kind == "tool-calls-generation" and not self._has_call_chunks:
            _take_calls(self._pieces, as_list(chunk.get("tool_calls")))
        elif kind == "stream-end":
            self._body |= inside(chunk.get("response"))
            self._body["finish_reason"] = chunk.get("finish_reason")
            self._end(self._body.get("meta"))

    def _feed_v2(self, chunk: Mapping[str, Any], delta: Mapping[str, Any], index: int) -> None:
        kind = chunk.get("type")
        message = inside(delta.get("message"))
        if kind in ("content-start", "content-delta"):
            content = inside(message.get("content"))
            self._pieces.text(content.get("text"), index)
            self._pieces.reasoning(content.get("thinking"), index)
        elif kind == "tool-plan-delta":
            self._pieces.reasoning(message.get("tool_plan"), "plan")
        elif kind in ("tool-call-start", "tool-call-delta"):
            call = inside(message.get("tool_calls"))
            function = inside(call.get("function"))
            self._pieces.tool_call(
                index, name=function.get("name"), arguments=function.get("arguments")
            )
        elif kind == "message-start":
            self.has_several = self.has_several or self.has_ended
            self._body["id"] = chunk.get("id")
        elif kind == "message-end":
            self._body["finish_reason"] = delta.get("finish_reason")
            reported = delta.get("usage")
            if (usage := as_mapping(reported)) is not None:
                reported = copy_of(usage)
            if reported is not None or "usage" not in self._body:
                self._body["usage"] = reported
            self._end(self._body["usage"])

    def _end(self, reported: object) -> None:
        self.has_ended = True
        self.is_final = reported is not None

    def body(self) -> Mapping[str, Any]:
        return self._body

    def output(self) -> Output:
        return self._pieces.output()
