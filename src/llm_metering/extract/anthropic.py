"""Usage of Anthropic's Messages API: its own endpoint, Amazon Bedrock's and Vertex AI's.

Source: anthropic 2.12.0, `anthropic/types/usage.py`, `message_delta_usage.py`,
`output_tokens_details.py`, `beta/beta_usage.py`, `beta/beta_*_iteration_usage.py`,
`lib/streaming/_messages.py`.

Additive: `input_tokens`, cache reads and cache writes are three disjoint counts, which we sum up.
`output_tokens` includes `thinking_tokens`.

In a stream the counts of `message_delta` are totals so far, and the last one holds; null or absent
means that the one of `message_start` stands. Its `output_tokens` is a placeholder: until a
`message_delta` came, the output is not known.

`iterations` lists what one request set off. `usage` is always the top level, which does not hold:
the `compaction` entries; the `advisor_message` entries, which are another model's; and of a request
that a fallback model answered, all entries but the last `fallback_message`. What is billed is the
sum over all entries (https://platform.claude.com/docs/en/build-with-claude/compaction, …/advisor-tool,
…/refusals-and-fallback, read 2026-11). Only an attempt that was declined before any output costs
nothing, unless it was declined for one of `_BILLED_REFUSALS`. Where that sum is not the top level's,
it stands in `billed_input_tokens` and `billed_output_tokens`, with the flag `iterations_beyond_total`;
where it can't be told, with the flag alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import InvalidUsageError, UnknownUsageError
from ..exchange import Output
from ..service_tiers import in_mode, served_on
from ..token_usage import TokenUsage
from .assembly import Pieces
from .measures import numbers
from .native import add, as_json, attempt, inside, tolerant
from .reading import NOTHING, Reading, name_of
from .views import as_list, copy_of

__all__ = ["PROVIDER", "Stream", "extract_usage", "matches_chunk", "output", "read"]

PROVIDER: Final = "anthropic"
BEYOND_TOTAL: Final = "iterations_beyond_total"
"""The flag of a request that is billed for more than its top-level usage says."""

_RESELLERS: Final = {"msg_bdrk_": "aws.bedrock", "msg_vrtx_": "gcp.vertex_ai"}
_INPUTS: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_SERVER_TOOLS: Final = ("web_search_requests", "web_fetch_requests", "code_execution_requests")
_TOOL_CALLS: Final = frozenset(["tool_use", "server_tool_use", "mcp_tool_use"])
_BILLED_REFUSALS: Final = frozenset(["bio", "frontier_llm", "reasoning_extraction"])
_EVENTS: Final = frozenset(
    [
        *("message_start", "message_delta", "message_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    ]
)


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of a message, of a `message_delta` or of an iteration.

    Raises:
        UnknownUsageError: If it is not in this shape, or every count in it is null.
        InvalidUsageError: If one of its counts is no count.
    """
    base = usage.get("input_tokens")
    out = usage.get("output_tokens")
    cached = usage.get("cache_read_input_tokens")
    written = usage.get("cache_creation_input_tokens")
    if (
        (base is None and out is None and cached is None and written is None)
        # OpenAI and LangChain use the same two names for counts that include the cache.
        or "input_tokens_details" in usage
        or "input_token_details" in usage
    ):
        raise UnknownUsageError(PROVIDER, keys=sorted(map(str, usage)))
    split = inside(usage.get("cache_creation"))
    spent = inside(usage.get("output_tokens_details"))
    written_5m = split.get("ephemeral_5m_input_tokens")
    written_1h = split.get("ephemeral_1h_input_tokens")
    if written is None and (written_5m is not None or written_1h is not None):
        written = add(0, written_5m, written_1h)
    return TokenUsage(
        input_tokens=add(base, cached, written),
        output_tokens=out,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=written,
        cache_creation_5m_input_tokens=written_5m,
        cache_creation_1h_input_tokens=written_1h,
        reasoning_output_tokens=spent.get("thinking_tokens"),
        reported_total_tokens=usage.get("total_tokens"),
        as_reported=True,
    )


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read a message, or a `message_delta` by itself; `None` if it is neither."""
    kind = body.get("type")
    if not isinstance(kind, str):
        return None
    if kind == "completion" and "completion" in body:
        return Reading(
            shape="anthropic.completions",
            provider=PROVIDER,
            operation="text_completion",
            model=name_of(body.get("model")),
            response_id=name_of(body.get("id")),
        )
    if not (kind == "message" and ("usage" in body or "content" in body)) and not (
        kind == "message_delta" and "usage" in body
    ):
        return None
    reported = body.get("usage")
    fields = inside(reported)
    usage, flags = attempt(extract_usage, fields or reported)
    measures: Mapping[str, int | float] = NOTHING
    if fields.get("server_tool_use") is not None or fields.get("iterations") is not None:
        measures, odd = _beside_tokens(fields, usage, body)
        flags += odd
    tier, flags = served_on(fields.get("service_tier"), flags)
    if (mode := fields.get("speed")) is not None:
        tier, flags = in_mode(tier, mode, flags)
    response_id = name_of(body.get("id"))
    return Reading(
        shape="anthropic.messages",
        provider=_RESELLERS.get(response_id[:9], PROVIDER) if response_id else PROVIDER,
        operation="chat",
        usage=usage,
        model=name_of(body.get("model")),
        response_id=response_id,
        service_tier=tier,
        measures=measures,
        flags=flags,
    )


def _beside_tokens(
    fields: Mapping[str, Any], usage: TokenUsage | None, body: Mapping[str, Any]
) -> tuple[Mapping[str, int | float], tuple[str, ...]]:
    """What is billed or was done beside the tokens of the top level, and what is odd about it."""
    tools = inside(fields.get("server_tool_use"))
    measures = numbers(**{name: tools.get(name) for name in _SERVER_TOOLS})
    iterations = as_list(fields.get("iterations"))
    if not iterations or usage is None:
        return measures, ()
    try:
        billed = _billed([inside(each) for each in iterations], body)
    except (InvalidUsageError, UnknownUsageError):
        billed = None
    if billed is None:
        return measures, (BEYOND_TOTAL,)
    if billed == (usage.input_tokens, usage.output_tokens):
        return measures, ()
    ingoing, outgoing = billed
    sums = numbers(billed_input_tokens=ingoing, billed_output_tokens=outgoing)
    return {**measures, **sums}, (BEYOND_TOTAL,)


def _billed(iterations: list[Mapping[str, Any]], body: Mapping[str, Any]) -> tuple[int, int] | None:
    """The tokens of all iterations that are billed; `None` if that can't be told."""
    refusals = _refusals(body)
    ingoing = outgoing = 0
    for each in iterations:
        usage = extract_usage(each)
        if usage.input_tokens is None or usage.output_tokens is None:
            raise InvalidUsageError("an iteration without its counts")
        if refusals and usage.output_tokens == 0:
            free = [category not in _BILLED_REFUSALS for category in refusals]
            if all(free):
                continue
            if any(free):
                return None  # nothing says which of the attempts was declined for what
        ingoing += usage.input_tokens
        outgoing += usage.output_tokens
    return ingoing, outgoing


def _refusals(body: Mapping[str, Any]) -> list[str | None]:
    """The categories for which models declined: one for each, `None` where it has no name."""
    refusals = [
        inside(block.get("trigger"))
        for block in map(inside, as_list(body.get("content")))
        if block.get("type") == "fallback"
    ]
    if body.get("stop_reason") == "refusal":
        refusals.append(inside(body.get("stop_details")))
    return [name_of(refusal.get("category")) for refusal in refusals]


def output(body: Mapping[str, Any]) -> Output:
    """The text of a message."""
    pieces = Pieces()
    pieces.text(body.get("completion"))
    for index, block in enumerate(map(inside, as_list(body.get("content")))):
        if _take(pieces, block, index):
            pieces.tool_call(index, arguments=as_json(block.get("input")))
    return pieces.output()


def _take(pieces: Pieces, block: Mapping[str, Any], index: int) -> bool:
    """Take what a block begins with, or is; whether it calls a tool."""
    kind = block.get("type")
    if kind == "text":
        pieces.text(block.get("text"), index)
    elif kind == "thinking":
        pieces.reasoning(block.get("thinking"), index)
    elif isinstance(kind, str) and kind in _TOOL_CALLS:
        pieces.tool_call(index, name=block.get("name"))
        return True
    return False


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is an event of a stream of the Messages API."""
    kind = chunk.get("type")
    return isinstance(kind, str) and kind in _EVENTS


class Stream:
    """One stream of events.

    The SDK's `messages.stream()` sends `text`, `thinking` and `input_json` beside the events of
    the API: they repeat what was in those, and are passed over.
    """

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._message: dict[str, Any] = {"type": "message", "content": []}
        self._usage: dict[str, Any] = {}
        self._pieces = Pieces()

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        kind = chunk.get("type")
        index = chunk.get("index")
        index = index if isinstance(index, int) else 0
        if kind == "content_block_delta":
            self._feed_delta(inside(chunk.get("delta")), index)
        elif kind == "content_block_start":
            block = inside(chunk.get("content_block"))
            _take(self._pieces, block, index)
            if block.get("type") == "fallback":
                # From here on another model speaks.
                self._message["content"].append(block)
                self._message["model"] = inside(block.get("to")).get("model")
        elif kind == "message_start":
            message = inside(chunk.get("message"))
            known, name = self._message.get("id"), message.get("id")
            if self.has_ended or (known and name and known != name):
                self.has_several = True
                self.has_ended = self.is_final = False
            self._message |= {"id": message.get("id"), "model": message.get("model")}
            usage = inside(message.get("usage"))
            self._report(usage, without=("output_tokens", "output_tokens_details"))
        elif kind == "message_delta":
            delta = inside(chunk.get("delta"))
            for name in ("stop_reason", "stop_details"):
                self._message[name] = delta.get(name)
            self._report(inside(chunk.get("usage")))
            self.is_final = "output_tokens" in self._usage
        elif kind == "message_stop":
            self.has_ended = True

    def _feed_delta(self, delta: Mapping[str, Any], index: int) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            self._pieces.text(delta.get("text"), index)
        elif kind == "thinking_delta":
            self._pieces.reasoning(delta.get("thinking"), index)
        elif kind == "input_json_delta":
            self._pieces.tool_call(index, arguments=delta.get("partial_json"))

    def _report(self, usage: Mapping[str, Any], without: tuple[str, ...] = ()) -> None:
        known = self._usage
        new = {
            name: count
            for name, count in copy_of(usage).items()
            if count is not None and name not in without
        }
        if not any(new.get(name) for name in _INPUTS) and any(known.get(name) for name in _INPUTS):
            # No prompt is empty: some proxies count the output alone, and send 0 for the input.
            for name in _INPUTS:
                new.pop(name, None)
        if new.get("output_tokens") == 0 and known.get("output_tokens"):
            del new["output_tokens"]  # the totals of a message only grow
        written = new.get("cache_creation_input_tokens")
        if written is not None and written != known.get("cache_creation_input_tokens"):
            # The split belongs to the count it came with, that of a compaction for example.
            known.pop("cache_creation", None)
        known |= new

    def body(self) -> Mapping[str, Any]:
        return {**self._message, "usage": self._usage} if self._usage else self._message

    def output(self) -> Output:
        return self._pieces.output()
