"""Answers of Gemini models, whole and in chunks: the Gemini API and Vertex AI.

Source: google-genai 3.4.0, `google/genai/types.py`, `EmbedContentResponse`,
`ContentEmbeddingStatistics`; `predict` from
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api.

A prompt that was blocked, with a `usageMetadata` without any count, used no tokens: no model saw it,
and proto3's JSON leaves a count of 0 out.

Every chunk of a stream carries the usage so far; the last one holds. Vertex AI is known by its
`createTime` and `trafficType`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ..exchange import Output
from ..token_usage import TokenUsage
from .assembly import Pieces, supersedes
from .flags import INVALID_USAGE
from .gemini_usage import (
    CAMEL,
    COUNTED,
    KNOWN,
    PROVIDER,
    SNAKE,
    counts_of,
    extract_usage,
    tier_of,
)
from .native import add, as_json, attempt, first, inside, whole
from .reading import NOTHING, Reading, moment, name_of
from .views import as_list, as_mapping, copy_of

__all__ = ["PROVIDER", "Stream", "extract_usage", "matches_chunk", "output", "read"]

VERTEX: Final = "gcp.vertex_ai"
_CARRIED: Final = (
    ("modelVersion", "model_version"),
    ("responseId", "response_id"),
    ("createTime", "create_time"),
    ("promptFeedback", "prompt_feedback"),
)


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read an answer, a chunk of a stream or embeddings; `None` if it is none of them."""
    reported = first(body, "usageMetadata", "usage_metadata")
    if not matches_chunk(body):
        embeddings = _embeddings(body)
        return _read_embeddings(body, embeddings, reported) if embeddings else None
    blocked = _is_blocked(body)
    answers = [inside(each) for each in as_list(body.get("candidates"))]
    finished = blocked or (bool(answers) and all(map(_has_finished, answers)))
    fields = inside(reported)
    usage, flags = attempt(partial(counts_of, finished=finished), fields or reported)
    if flags and blocked and not answers and INVALID_USAGE not in flags and fields.keys() <= KNOWN:
        usage, flags = TokenUsage(input_tokens=0, output_tokens=0), ()
    tier, flags = tier_of(fields, flags)
    created = first(body, "createTime", "create_time")
    is_vertex = created is not None or first(fields, CAMEL.traffic, SNAKE.traffic) is not None
    return Reading(
        shape="gemini.generate_content",
        provider=VERTEX if is_vertex else PROVIDER,
        operation="chat",
        usage=usage,
        is_final=finished or not answers,
        model=name_of(first(body, "modelVersion", "model_version")),
        response_id=name_of(first(body, "responseId", "response_id")),
        service_tier=tier,
        created=moment(created),
        flags=flags,
    )


def _is_blocked(body: Mapping[str, Any]) -> bool:
    feedback = inside(first(body, "promptFeedback", "prompt_feedback"))
    return first(feedback, "blockReason", "block_reason") is not None


def _has_finished(candidate: Mapping[str, Any]) -> bool:
    reason = first(candidate, "finishReason", "finish_reason")
    return reason is not None and reason not in (0, "", "FINISH_REASON_UNSPECIFIED")


def _embeddings(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The embeddings in an answer, if that is what it is."""
    items = body.get("embedding", body.get("embeddings"))
    if items is None:
        items = [inside(each).get("embeddings") for each in as_list(body.get("predictions"))]
    elif not isinstance(items, list | tuple):
        items = [items]
    if not items or "values" not in inside(items[0]):
        return []
    return [inside(each) for each in items]


def _read_embeddings(
    body: Mapping[str, Any], embeddings: list[Mapping[str, Any]], reported: object
) -> Reading:
    fields = inside(reported)
    statistics = [inside(each.get("statistics")) for each in embeddings]
    # Only Vertex AI counts each text for itself.
    counts = [first(each, "token_count", "tokenCount") for each in statistics]
    if reported is None and None not in counts:
        usage, flags = attempt(_of_statistics, {"token_count": counts})
    else:
        usage, flags = attempt(partial(counts_of, finished=True, embeds=True), reported)
    tier, flags = tier_of(fields, flags)
    is_vertex = None not in counts or first(fields, CAMEL.total, SNAKE.total) is not None
    return Reading(
        shape="gemini.embeddings",
        provider=VERTEX if is_vertex else PROVIDER,
        operation="embeddings",
        usage=usage,
        service_tier=tier,
        flags=flags,
    )


def _of_statistics(statistics: Mapping[str, list[Any]]) -> TokenUsage:
    counts = map(whole, statistics["token_count"])
    return TokenUsage(input_tokens=add(0, *counts), output_tokens=0)


def output(body: Mapping[str, Any]) -> Output:
    """The text of an answer."""
    stream = Stream()
    stream.feed(body)
    return stream.output()


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is one of a stream of `generateContent`, or an answer that was not streamed."""
    if isinstance(chunk.get("candidates"), list | tuple):
        return True
    if first(chunk, "promptFeedback", "prompt_feedback") is not None:
        return True
    reported = as_mapping(first(chunk, "usageMetadata", "usage_metadata"))
    return reported is not None and not KNOWN.isdisjoint(reported) and not _embeddings(chunk)


class Stream:
    """One stream of `generateContent`.

    LlamaIndex hands on the candidate itself, with the usage in it (llama-index-llms-google-genai
    0.11.3, `utils.py`, `chat_from_gemini_response`).
    """

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._body: dict[str, Any] = {"candidates": []}
        self._speaking: set[int] = set()
        self._finished: set[int] = set()
        self._calls = 0
        self._pieces = Pieces()

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        known, name = self._body.get("responseId"), first(chunk, "responseId", "response_id")
        if known and name and known != name and as_list(chunk.get("candidates")):
            self.has_several = self.has_several or self._speaking <= self._finished
        for name, other in _CARRIED:
            if (value := first(chunk, name, other)) is not None:
                self._body[name] = value
        for candidate in map(inside, as_list(chunk.get("candidates"))):
            self._take(candidate)
        if "candidates" not in chunk and _has_finished(chunk):
            self._take(chunk)
        blocked = _is_blocked(self._body)
        ended = blocked or (bool(self._speaking) and self._speaking <= self._finished)
        reported = as_mapping(first(chunk, "usageMetadata", "usage_metadata"))
        # The first chunks of Vertex AI have a usage with the traffic type and no count.
        is_counted = first(reported or NOTHING, CAMEL.prompt, SNAKE.prompt) is not None
        known = self._body.get("usageMetadata")
        if reported and (blocked or (is_counted and supersedes(reported, known, COUNTED))):
            self._body["usageMetadata"] = copy_of(reported)
            self._body["candidates"] = [{"finishReason": "STOP"}] if ended and not blocked else []
            self.is_final = ended
        self.has_ended = ended and self.is_final

    def _take(self, candidate: Mapping[str, Any]) -> None:
        index = candidate.get("index")
        index = index if isinstance(index, int) else 0
        self._speaking.add(index)
        if _has_finished(candidate):
            self._finished.add(index)
        content = inside(candidate.get("content"))
        for part in map(inside, as_list(content.get("parts"))):
            if part.get("thought") is True:
                self._pieces.reasoning(part.get("text"), index)
            else:
                self._pieces.text(part.get("text"), index)
            code = inside(first(part, "executableCode", "executable_code"))
            self._pieces.text(code.get("code"), index)
            call = as_mapping(first(part, "functionCall", "function_call"))
            if call is not None:
                self._calls += 1
                arguments = as_json(call.get("args"))
                self._pieces.tool_call(self._calls, name=call.get("name"), arguments=arguments)

    def body(self) -> Mapping[str, Any]:
        return self._body

    def output(self) -> Output:
        return self._pieces.output()
