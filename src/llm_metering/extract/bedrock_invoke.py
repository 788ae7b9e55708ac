"""Usage of Amazon Bedrock's InvokeModel, and of its streams.

Source: botocore 1.44.5, `botocore/data/bedrock-runtime/2023-09-30/service-2.json`,
`InvokeModelResponse`, `ResponseStream`, `botocore/response.py`; for the models' own bodies
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html (Llama, Titan text and
embeddings, Mistral). Claude answers as in `anthropic.py`, Nova as in `bedrock_converse.py`, others
as OpenAI does.

Llama and Titan know no cache: their counts are the whole. What Bedrock itself counts, in the
headers `x-amzn-bedrock-…-token-count` and in the `amazon-bedrock-invocationMetrics` of a stream's
last chunk, is additive: the input leaves out cache reads and writes.

The body of a botocore response is a stream that can be read once, by the application: we take the
counts from the headers, and leave it alone. In a stream Bedrock's metrics are the last word. Where
the model's own counts come to the same, its details of them (thinking, lifetime of the cache) are
taken over.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from ..errors import InvalidUsageError, UnknownUsageError
from ..exchange import Output
from ..service_tiers import in_mode, served_on
from ..token_usage import TokenUsage
from . import anthropic, bedrock_converse
from .assembly import Assembler, Pieces, supersedes
from .native import add, attempt, first, inside, tolerant
from .reading import NOTHING, Reading, name_of
from .views import as_list, as_mapping

__all__ = ["PROVIDER", "Stream", "extract_usage", "matches_chunk", "output", "read"]

PROVIDER: Final = "aws.bedrock"
SHAPE: Final = "bedrock.invoke"
METRICS: Final = "amazon-bedrock-invocationMetrics"

_NATIVE: Final = "native"
"""Our own key, for what the model itself says, so that no other reader takes it for its own."""

_HEADERS: Final = {
    "inputTokenCount": "x-amzn-bedrock-input-token-count",
    "outputTokenCount": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokenCount": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokenCount": "x-amzn-bedrock-cache-write-input-token-count",
}
_TIER: Final = "x-amzn-bedrock-service-tier"
_LATENCY: Final = "x-amzn-bedrock-performanceconfig-latency"
_LLAMA: Final = ("prompt_token_count", "generation_token_count")
_TITAN: Final = ("inputTextTokenCount", "totalOutputTextTokenCount")
_TEXTS: Final = ("generation", "outputText", "completion", "text")


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the counts of Bedrock's metrics or headers, or of a body of Llama, Titan or Nova.

    Raises:
        UnknownUsageError: If it is in none of these shapes, or every count in it is null.
        InvalidUsageError: If one of its counts is no count.
    """
    if "inputTokens" in usage:
        return bedrock_converse.extract_usage(usage)
    if any(name in usage for name in _LLAMA):
        input_tokens, output_tokens = (usage.get(name) for name in _LLAMA)
        cached = written = None
    elif _TITAN[0] in usage:
        input_tokens, output_tokens = usage[_TITAN[0]], _titan_output(usage)
        cached = written = None
    else:
        if any(header in usage for header in _HEADERS.values()):
            usage = {name: _number(usage.get(header)) for name, header in _HEADERS.items()}
        cached, written = (
            usage.get("cacheReadInputTokenCount"),
            usage.get("cacheWriteInputTokenCount"),
        )
        input_tokens = add(usage.get("inputTokenCount"), cached, written)
        output_tokens = usage.get("outputTokenCount")
    if input_tokens is None and output_tokens is None:
        raise UnknownUsageError(PROVIDER, keys=sorted(map(str, usage)))
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=written,
        as_reported=True,
    )


def _titan_output(body: Mapping[str, Any]) -> Any:
    if "embedding" in body or "embeddingsByType" in body:
        return 0
    results = as_list(body.get("results"))
    counts = [inside(each).get("tokenCount") for each in results]
    if not counts or None in counts:
        return body.get(_TITAN[1])
    return add(0, *counts)


def _number(header: object) -> object:
    """A header's number. Python would read more as one, `1_000` for example."""
    if isinstance(header, str):
        if not (header.isascii() and header.isdigit() and len(header) < 16):
            raise InvalidUsageError("a header's count is no whole number")
        return int(header)
    return header


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read a model's own body, a botocore response whose body was not read, or an event; else `None`."""
    if METRICS in body:
        return _with_metrics(body)
    if matches_chunk(body):
        stream = Stream()
        stream.feed(body)
        return replace(_with_metrics(stream.body()), is_final=stream.is_final)
    if "ResponseMetadata" in body and ("body" in body or "stream" in body):
        return _read_headers(inside(body["ResponseMetadata"]))
    return _read_native(body)


def _read_native(body: Mapping[str, Any]) -> Reading | None:
    if any(name in body for name in _LLAMA):
        return _reading("text_completion", body)
    if _TITAN[0] in body:
        embeds = "embedding" in body or "embeddingsByType" in body
        return _reading("embeddings" if embeds else "text_completion", body)
    outputs = as_list(body.get("outputs"))
    if outputs and "text" in inside(outputs[0]):
        return _reading("text_completion", None)
    return None


def _reading(operation: str | None, reported: object) -> Reading:
    usage, flags = attempt(extract_usage, reported)
    return Reading(shape=SHAPE, provider=PROVIDER, operation=operation, usage=usage, flags=flags)


def _with_metrics(body: Mapping[str, Any]) -> Reading:
    native = as_mapping(body.get(_NATIVE)) or body
    reading = (
        anthropic.read(native)
        or bedrock_converse.read(native)
        or _read_native(native)
        or _reading(None, None)
    )
    usage, flags = attempt(extract_usage, body[METRICS])
    counted = reading.usage
    if usage is None or (counted is not None and _totals(counted) == _totals(usage)):
        usage = counted
    return replace(
        reading,
        shape=SHAPE,
        provider=PROVIDER,
        usage=usage,
        flags=(*reading.flags, *flags),
    )


def _totals(usage: TokenUsage) -> tuple[int | None, int | None]:
    return usage.input_tokens, usage.output_tokens


def _read_headers(metadata: Mapping[str, Any]) -> Reading:
    headers = inside(metadata.get("HTTPHeaders"))
    counted = any(name in headers for name in _HEADERS.values())
    usage, flags = attempt(extract_usage, headers if counted else None)
    tier, flags = served_on(headers.get(_TIER), flags)
    tier, flags = in_mode(tier, headers.get(_LATENCY), flags)
    return Reading(
        shape=SHAPE,
        provider=PROVIDER,
        usage=usage,
        response_id=name_of(metadata.get("RequestId")),
        service_tier=tier,
        created=bedrock_converse.sent_at(metadata),
        flags=flags,
    )


def output(body: Mapping[str, Any]) -> Output:
    """The text of a body of Llama, Titan or Mistral; of others their own module has it."""
    pieces = Pieces()
    _take(pieces, body)
    return pieces.output()


def _take(pieces: Pieces, native: Mapping[str, Any]) -> None:
    pieces.text(first(native, *_TEXTS))
    for name in ("results", "outputs", "choices"):
        for index, each in enumerate(map(inside, as_list(native.get(name)))):
            message = inside(first(each, "delta", "message"))
            pieces.text(first(each, "outputText", "text"), index)
            pieces.text(message.get("content"), index)


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is an event of InvokeModelWithResponseStream."""
    return "bytes" in inside(chunk.get("chunk"))


class Stream:
    """One stream of InvokeModelWithResponseStream."""

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._native: Assembler | None = None
        self._counts: dict[str, Any] = {}
        self._metrics: object = None
        self._pieces = Pieces()

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        native = _decoded(chunk)
        if self._native is None:
            if anthropic.matches_chunk(native):
                self._native = anthropic.Stream()
            elif bedrock_converse.matches_chunk(native):
                self._native = bedrock_converse.Stream()
        if self._native is not None:
            self._native.feed(native)
            self.has_several = self._native.has_several
        else:
            _take(self._pieces, native)
        for name in (*_LLAMA, *_TITAN):
            count = native.get(name)
            # A 0 after a count says nothing.
            if count is not None and not (count == 0 and self._counts.get(name)):
                self._counts[name] = count
        if (metrics := native.get(METRICS)) is not None:
            known, new = inside(self._metrics), inside(metrics)
            if supersedes(new, known, _HEADERS) or self._metrics is None:
                self._metrics = metrics
        has_metrics = self._metrics is not None
        self.is_final = has_metrics or (self._native is not None and self._native.is_final)
        self.has_ended = has_metrics or (self._native is not None and self._native.has_ended)

    def body(self) -> Mapping[str, Any]:
        native = self._counts if self._native is None else self._native.body()
        return {METRICS: self._metrics, _NATIVE: native}

    def output(self) -> Output:
        return self._pieces.output() if self._native is None else self._native.output()


def _decoded(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model's own chunk inside Bedrock's; empty if it can't be read."""
    payload = inside(chunk.get("chunk")).get("bytes")
    try:
        if isinstance(payload, str) and not payload.lstrip().startswith("{"):
            # As on the wire; botocore has decoded it already.
            payload = base64.b64decode(payload, validate=True)
        native = msgspec.json.decode(payload) if isinstance(payload, str | bytes) else None
    except (ValueError, msgspec.MsgspecError, RecursionError):
        native = None
    return native if isinstance(native, dict) else NOTHING
