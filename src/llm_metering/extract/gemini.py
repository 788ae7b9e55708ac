"""Usage of Gemini models: the Gemini API and Vertex AI.

Source: google-genai 3.4.0, `google/genai/types.py`, `GenerateContentResponseUsageMetadata`,
`ModalityTokenCount`, `EmbedContentResponse`, `ContentEmbeddingStatistics`; the numbers of
modalities from `Modality` in https://github.com/googleapis/python-aiplatform
`google/cloud/aiplatform_v1/types/content.py`; `predict` from
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api.

Half additive: `toolUsePromptTokenCount` stands beside `promptTokenCount`, `thoughtsTokenCount`
beside `candidatesTokenCount`, and we sum each pair up. `cachedContentTokenCount` is inside
`promptTokenCount`.

The JSON is that of proto3, which leaves a count of 0 out: an answer that ended during its thoughts
has no `candidatesTokenCount`, and its `totalTokenCount` adds up without it. So beside a total, and
once an answer has finished, a missing `candidatesTokenCount` is 0. For the same reason a prompt
that was blocked, with a `usageMetadata` without any count, used no tokens: no model saw it.

Every chunk of a stream carries the usage so far; the last one holds. Vertex AI is known by its
`createTime` and `trafficType`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from ..errors import UnknownUsageError
from ..exchange import Output
from ..token_usage import TokenUsage
from .assembly import Pieces, supersedes
from .flags import INVALID_USAGE
from .native import add, as_json, attempt, first, inside, tolerant, whole
from .reading import NOTHING, Reading, moment, name_of
from .views import as_list, as_mapping, copy_of

__all__ = ["PROVIDER", "Stream", "extract_usage", "matches_chunk", "output", "read"]

PROVIDER: Final = "gcp.gemini"
VERTEX: Final = "gcp.vertex_ai"


class _Names(NamedTuple):
    """The keys of a usage, as the API or the SDK spells them."""

    prompt: str
    candidates: str
    total: str
    thoughts: str
    tool_use: str
    cached: str
    prompt_details: str
    tool_use_details: str
    candidates_details: str
    traffic: str


_CAMEL: Final = _Names(
    *("promptTokenCount", "candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount"),
    *("toolUsePromptTokenCount", "cachedContentTokenCount", "promptTokensDetails"),
    *("toolUsePromptTokensDetails", "candidatesTokensDetails", "trafficType"),
)
_SNAKE: Final = _Names(
    *("".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in _CAMEL)
)
_KNOWN: Final = frozenset(
    [
        *(*_CAMEL, "cacheTokensDetails", "serviceTier"),
        *(*_SNAKE, "cache_tokens_details", "service_tier"),
    ]
)
_COUNTED: Final = tuple(name for names in (_CAMEL, _SNAKE) for name in names[:4])
_CARRIED: Final = (
    ("modelVersion", "model_version"),
    ("responseId", "response_id"),
    ("createTime", "create_time"),
    ("promptFeedback", "prompt_feedback"),
)
_SCALARS: Final = (str, int)
_MODALITIES: Final[Mapping[str | int, str]] = {
    "IMAGE": "image",
    "VIDEO": "video",
    "AUDIO": "audio",
    # Vertex AI sends numbers where it is asked for `enum-encoding=int`.
    2: "image",
    3: "video",
    4: "audio",
}


def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usageMetadata` of an answer that has finished.

    Raises:
        UnknownUsageError: If it is not in this shape, or every count in it is null.
        InvalidUsageError: If one of its counts is no count.
    """
    return _counts(usage, finished=True)


@tolerant
def _counts(usage: Mapping[str, Any], *, finished: bool, embeds: bool = False) -> TokenUsage:
    names = _SNAKE if _SNAKE.prompt in usage or _SNAKE.total in usage else _CAMEL
    prompt = usage.get(names.prompt)
    candidates = usage.get(names.candidates)
    thoughts = usage.get(names.thoughts)
    total = usage.get(names.total)
    if prompt is None and candidates is None and thoughts is None and total is None:
        raise UnknownUsageError(PROVIDER, keys=sorted(map(str, usage)))
    if candidates is None and (embeds or (finished and total is not None)):
        candidates = 0
    tool_use = usage.get(names.tool_use)
    ingoing = _by_modality(
        # The Gemini API's embeddings alone say `promptTokenDetails`.
        first(usage, names.prompt_details, "promptTokenDetails"),
        usage.get(names.tool_use_details),
    )
    outgoing = _by_modality(usage.get(names.candidates_details))
    return TokenUsage(
        # Most have no parts; a count that is none is refused by the type all the same.
        input_tokens=prompt if tool_use is None else add(prompt, tool_use),
        output_tokens=candidates if thoughts is None else add(candidates, thoughts),
        cache_read_input_tokens=usage.get(names.cached),
        reasoning_output_tokens=thoughts,
        input_audio_tokens=ingoing.get("audio"),
        input_image_tokens=ingoing.get("image"),
        input_video_tokens=ingoing.get("video"),
        tool_use_input_tokens=tool_use,
        output_audio_tokens=outgoing.get("audio"),
        output_image_tokens=outgoing.get("image"),
        reported_total_tokens=total,
        as_reported=True,
    )


def _by_modality(*splits: object) -> Mapping[str, int | None]:
    counts: dict[str, int | None] = {}
    for split in splits:
        if not split:
            continue
        for entry in as_list(split):
            fields = entry if type(entry) is dict else inside(entry)
            modality = fields.get("modality")
            # Most are text, and the SDK's enum hashes slowly.
            if modality == "TEXT" or not isinstance(modality, _SCALARS):
                continue
            if (name := _MODALITIES.get(modality)) is not None:
                counts[name] = add(0, counts.get(name), first(fields, "tokenCount", "token_count"))
    return counts


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
    usage, flags = attempt(partial(_counts, finished=finished), fields or reported)
    if flags and blocked and not answers and INVALID_USAGE not in flags and fields.keys() <= _KNOWN:
        usage, flags = TokenUsage(input_tokens=0, output_tokens=0), ()
    created = first(body, "createTime", "create_time")
    is_vertex = created is not None or first(fields, _CAMEL.traffic, _SNAKE.traffic) is not None
    return Reading(
        shape="gemini.generate_content",
        provider=VERTEX if is_vertex else PROVIDER,
        operation="chat",
        usage=usage,
        is_final=finished or not answers,
        model=name_of(first(body, "modelVersion", "model_version")),
        response_id=name_of(first(body, "responseId", "response_id")),
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
        usage, flags = attempt(partial(_counts, finished=True, embeds=True), reported)
    is_vertex = None not in counts or first(fields, _CAMEL.total, _SNAKE.total) is not None
    return Reading(
        shape="gemini.embeddings",
        provider=VERTEX if is_vertex else PROVIDER,
        operation="embeddings",
        usage=usage,
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
    return reported is not None and not _KNOWN.isdisjoint(reported) and not _embeddings(chunk)


class Stream:
    """One stream of `generateContent`."""

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
        blocked = _is_blocked(self._body)
        ended = blocked or (bool(self._speaking) and self._speaking <= self._finished)
        reported = as_mapping(first(chunk, "usageMetadata", "usage_metadata"))
        # The first chunks of Vertex AI have a usage with the traffic type and no count.
        is_counted = first(reported or NOTHING, _CAMEL.prompt, _SNAKE.prompt) is not None
        known = self._body.get("usageMetadata")
        if reported and (blocked or (is_counted and supersedes(reported, known, _COUNTED))):
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
