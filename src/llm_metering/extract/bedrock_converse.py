"""Usage of Amazon Bedrock's Converse and ConverseStream, and of Nova through InvokeModel.

Source: botocore 1.44.5, `botocore/data/bedrock-runtime/2023-09-30/service-2.json`, `TokenUsage`,
`CacheDetail`, `ConverseResponse`, `ConverseStreamOutput`, `ServiceTier`, `PerformanceConfiguration`;
https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html.

Additive: `inputTokens` leaves out what was read from and written to the cache, and we sum the
three up. `totalTokens` holds them all. (For OpenAI's models Bedrock has been seen to count the
cached tokens in `inputTokens` too, to add them to the total again, and to charge them like that:
https://github.com/anomalyco/opencode/issues/47296. The body does not say whose model it was; its
numbers are kept as they are.)

The JSON itself, and Nova's, spells the cache `cacheReadInputTokenCount`. The model is not in the
answer, unless a prompt router chose it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ..errors import UnknownUsageError
from ..exchange import Output
from ..service_tiers import in_mode, served_on
from ..token_usage import TokenUsage
from .assembly import Pieces, supersedes
from .native import add, as_json, attempt, first, inside, tolerant
from .reading import Reading, moment, name_of
from .views import as_list, as_mapping, copy_of

__all__ = [
    "PROVIDER",
    "Stream",
    "extract_usage",
    "matches_chunk",
    "output",
    "read",
    "sent_at",
    "tier_of",
]

PROVIDER: Final = "aws.bedrock"

_EVENTS: Final = (
    *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"),
    *("messageStop", "metadata"),
)
_COUNTS: Final = ("inputTokens", "outputTokens", "totalTokens")
_OF_THE_CALL: Final = ("trace", "serviceTier", "performanceConfig")
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_MONTH_NUMBERS: Final = {name: number for number, name in enumerate(_MONTHS, 1)}


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of an answer.

    Raises:
        UnknownUsageError: If it is not in this shape, or every count in it is null.
        InvalidUsageError: If one of its counts is no count.
    """
    base = usage.get("inputTokens")
    out = usage.get("outputTokens")
    total = usage.get("totalTokens")
    if base is None and out is None and total is None:
        raise UnknownUsageError(PROVIDER, keys=sorted(map(str, usage)))
    cached = first(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = first(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    written_for: dict[str, int | None] = {}
    for each in as_list(usage.get("cacheDetails")):
        entry = inside(each)
        if (ttl := name_of(entry.get("ttl"))) is not None:
            written_for[ttl] = add(0, written_for.get(ttl), entry.get("inputTokens"))
    return TokenUsage(
        input_tokens=add(base, cached, written),
        output_tokens=out,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=written,
        cache_creation_5m_input_tokens=written_for.get("5m"),
        cache_creation_1h_input_tokens=written_for.get("1h"),
        reported_total_tokens=total,
        as_reported=True,
    )


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read an answer, or the `metadata` event of a stream; `None` if it is neither."""
    said = body
    if "stopReason" not in body or "output" not in body:
        said = inside(body.get("metadata"))
        if not _is_metadata(said):
            return None
    trace = said.get("trace")
    usage, flags = attempt(extract_usage, said.get("usage"))
    tier, flags = tier_of(said, flags)
    metadata = inside(body.get("ResponseMetadata"))
    return Reading(
        shape="bedrock.converse",
        provider=PROVIDER,
        operation="chat",
        usage=usage,
        model=None if trace is None else _routed_to(trace),
        response_id=name_of(metadata.get("RequestId")),
        service_tier=tier,
        created=sent_at(metadata),
        flags=flags,
    )


def tier_of(
    said: Mapping[str, Any], flags: tuple[str, ...] = ()
) -> tuple[str | None, tuple[str, ...]]:
    """The tier that an answer names, and the flags with what is odd about it.

    A model that is optimized for latency costs more, and is named beside the tier.
    """
    tier, mode = said.get("serviceTier"), said.get("performanceConfig")
    if tier is None and mode is None:
        return None, flags
    word, flags = served_on(inside(tier).get("type"), flags)
    return in_mode(word, inside(mode).get("latency"), flags)


def _is_metadata(event: Mapping[str, Any]) -> bool:
    usage = as_mapping(event.get("usage"))
    return usage is not None and "inputTokens" in usage


def _routed_to(trace: object) -> str | None:
    router = inside(inside(trace).get("promptRouter"))
    return name_of(router.get("invokedModelId"))


def sent_at(metadata: Mapping[str, Any]) -> datetime | None:
    """When an answer was sent: the `Date` of its HTTP headers in botocore's `ResponseMetadata`."""
    date = inside(metadata.get("HTTPHeaders")).get("date")
    # Sun, 06 Nov 1994 08:49:37 GMT: there is no other form (RFC 9110, 5.6.7). Cut up by hand, since
    # `strptime` asks the locale for its names of months.
    if not isinstance(date, str) or date[25:] != " GMT":
        return None
    month = _MONTH_NUMBERS.get(date[8:11])
    return moment(f"{date[12:16]}-{month:02}-{date[5:7]}T{date[17:25]}Z") if month else None


def output(body: Mapping[str, Any]) -> Output:
    """The text of an answer."""
    pieces = Pieces()
    answer = inside(body.get("output"))
    message = inside(answer.get("message"))
    for index, block in enumerate(map(inside, as_list(message.get("content")))):
        pieces.text(block.get("text"), index)
        cited = inside(block.get("citationsContent"))
        for part in as_list(cited.get("content")):
            pieces.text(inside(part).get("text"), index)
        thought = inside(block.get("reasoningContent"))
        shown = inside(thought.get("reasoningText"))
        pieces.reasoning(shown.get("text"), index)
        call = as_mapping(block.get("toolUse"))
        if call is not None:
            pieces.tool_call(index, name=call.get("name"), arguments=as_json(call.get("input")))
    return pieces.output()


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is an event of ConverseStream, or of Nova's stream."""
    for name in _EVENTS:
        if (event := chunk.get(name)) is not None:
            fields = as_mapping(event)
            return fields is not None and (name != "metadata" or _is_metadata(fields))
    return False


class Stream:
    """One stream of ConverseStream."""

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._body: dict[str, Any] = {"output": {}, "stopReason": None}
        self._pieces = Pieces()

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        if (event := as_mapping(chunk.get("contentBlockDelta"))) is not None:
            self._take(inside(event.get("delta")), _index(event))
        elif (event := as_mapping(chunk.get("contentBlockStart"))) is not None:
            start = inside(event.get("start"))
            call = inside(start.get("toolUse"))
            self._pieces.tool_call(_index(event), name=call.get("name"))
        elif chunk.get("messageStart") is not None:
            self.has_several = self.has_several or self.has_ended
        elif (event := as_mapping(chunk.get("metadata"))) is not None:
            for name in _OF_THE_CALL:
                self._body[name] = event.get(name)
            usage = as_mapping(event.get("usage"))
            if usage is not None and supersedes(usage, self._body.get("usage"), _COUNTS):
                self._body["usage"] = copy_of(usage)
                self.is_final = True
            self.has_ended = True

    def _take(self, delta: Mapping[str, Any], index: int) -> None:
        self._pieces.text(delta.get("text"), index)
        call = inside(delta.get("toolUse"))
        self._pieces.tool_call(index, arguments=call.get("input"))
        thought = inside(delta.get("reasoningContent"))
        self._pieces.reasoning(thought.get("text"), index)

    def body(self) -> Mapping[str, Any]:
        return self._body

    def output(self) -> Output:
        return self._pieces.output()


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("contentBlockIndex")
    return index if isinstance(index, int) else 0
