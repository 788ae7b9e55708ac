"""`UsageEvent`, the record of one LLM call, and what it is on the wire.

There it is a CloudEvent whose `data` is a superset of the event in OpenMeter's own OpenAI example. OpenMeter refuses a null at the top
level of `data`, drops unknown top-level attributes in its v1 API and refuses them in v3: so
there are no nulls, and everything of ours is inside `data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from .cloud_events import CloudEvent, dump, format_time, parse
from .errors import InvalidUsageError, SubjectError
from .event_ids import keyed_event_id, new_event_id
from .token_usage import MAX_COUNT, TokenUsage

__all__ = [
    "DATA_KEYS",
    "EVENT_TYPE",
    "MEASURES",
    "THRESHOLD_EVENT_TYPE",
    "UNATTRIBUTED",
    "CloudEvent",
    "Provenance",
    "Status",
    "UsageEvent",
    "check_dimensions",
    "encode",
    "format_time",
    "is_unicode",
    "keyed_event_id",
    "new_event_id",
    "parse",
]

EVENT_TYPE: Final = "llm.usage"
THRESHOLD_EVENT_TYPE: Final = "llm.balance.threshold"
"""The CloudEvents `type` of a notice that a balance is used up so far; it is no usage."""

UNATTRIBUTED: Final = "unattributed"
"""The subject of a call that nobody was named for; kept and flagged, never dropped."""

Provenance = Literal["reported", "partial", "estimated", "missing"]
"""Where the counts come from: all from the provider's final report; some of them; none (we
counted, and `count_method` says how); nothing is known."""

Status = Literal["completed", "failed", "aborted", "cached", "interrupted"]
"""How the call ended; `interrupted` is a call whose process died."""


# A Struct: a frozen dataclass of so many fields takes ten times as long to make.
class UsageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One LLM call, embedding request or recorded unit.

    Attributes:
        id: Minted when the call starts and never changed; with `source` it is the event's
            identity, on which every sink deduplicates.
        source: The application, as a stable name (CloudEvents `source`).
        subject: Who pays.
        time: An aware UTC time: the provider's own where the front end knows it, else when the
            call ended.
        operation: `chat`, `text_completion`, `embeddings`, … (OpenTelemetry's
            `gen_ai.operation.name`).
        provider: OpenTelemetry's `gen_ai.provider.name`, or what the framework calls it.
        model: The model that answered.
        request_model: The model that was asked for.
        service_tier: On which of the provider's tiers the call was served, in its own word:
            `batch`, `flex`, `default`, …
        usage: The counts; `None` where nothing is known.
        quantity: How much was used of a unit that is no token: of images, seconds, API calls.
        unit: The unit's name; a call to a model has none.
        measures: What else the provider billed or measured, by its key in `data`: `reported_cost`,
            `web_search_requests`, `billed_input_tokens`, ….
        duration_ms: From the start of the call to its end, in milliseconds.
        time_to_first_token_ms: From the start to the first streamed piece, in milliseconds.
        batch_size: How many prompts the one request held, where it held several.
        count_method: How we counted, where the provider did not.
        reservation_id: What was reserved for the call; whoever keeps balances settles it.
        flags: What was odd about the call, as short names.
        dimensions: The user's own strings to group by; they become keys of `data`.

    Raises:
        SubjectError: If the subject is not a non-empty string, or a dimension not a string or
            with the name of a key of `data`.
        InvalidUsageError: If the counts and the provenance contradict each other.
        ValueError: If `time` is naive or an identifier is empty.
    """

    id: str
    source: str
    subject: str
    time: datetime
    provenance: Provenance
    status: Status
    usage: TokenUsage | None = None
    quantity: int | float | None = None
    unit: str | None = None
    measures: Mapping[str, int | float] = msgspec.field(default_factory=dict)
    type: str = EVENT_TYPE
    operation: str | None = None
    provider: str | None = None
    model: str | None = None
    request_model: str | None = None
    framework: str | None = None
    run_id: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    duration_ms: int | None = None
    time_to_first_token_ms: int | None = None
    batch_size: int | None = None
    count_method: str | None = None
    reservation_id: str | None = None
    flags: tuple[str, ...] = ()
    dimensions: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.id and self.source and self.type):
            raise ValueError("id, source and type must be non-empty strings")
        if not isinstance(self.subject, str) or not self.subject:
            raise SubjectError(f"a subject is a non-empty string, got {self.subject!r}")
        if self.time.tzinfo is None:
            raise ValueError("time must be aware; use datetime.now(UTC)")
        if (self.unit is None) != (self.quantity is None):
            raise InvalidUsageError("a quantity needs a unit, and a unit a quantity")
        unknown = self.usage is None and self.quantity is None
        if unknown != (self.provenance == "missing"):
            raise InvalidUsageError(
                f"provenance {self.provenance!r} with usage {self.usage!r}: "
                "exactly the events without counts are 'missing'"
            )
        if self.measures:
            for key, value in self.measures.items():
                if key not in MEASURES or not _is_number(value):
                    raise InvalidUsageError(f"{key!r} is no measure, or its value no finite number")
        if self.dimensions:
            check_dimensions(self.dimensions)

    def data(self) -> dict[str, Any]:
        """The event's payload in the `call` shape; what is unknown is absent."""
        data: dict[str, Any] = {}
        # Written out: see `TokenUsage.add_to`.
        if self.model or self.request_model:
            data["model"] = self.model or self.request_model
        if self.request_model is not None:
            data["request_model"] = self.request_model
        if self.provider is not None:
            data["provider"] = self.provider
        if self.operation is not None:
            data["operation"] = self.operation
        if self.service_tier is not None:
            data["service_tier"] = self.service_tier
        usage = self.usage
        if usage is not None:
            total = usage.total_tokens
            if total is not None:
                data["total_tokens"] = total
            usage.add_to(data)
            # The names of OpenAI's API, which OpenMeter's example and most meters use.
            if usage.input_tokens is not None:
                data["prompt_tokens"] = usage.input_tokens
            if usage.output_tokens is not None:
                data["completion_tokens"] = usage.output_tokens
            if usage.reported_total_tokens is not None:
                data["reported_total_tokens"] = usage.reported_total_tokens
        if self.measures:
            data.update(self.measures)
        if self.unit is None or usage is not None:
            # Other units are no calls, so that the sum of `calls` stays their number.
            data["calls"] = 1
        if self.unit is not None:
            data["quantity"] = self.quantity
            data["unit"] = self.unit
        if self.duration_ms is not None:
            data["duration_ms"] = self.duration_ms
        if self.time_to_first_token_ms is not None:
            data["time_to_first_token_ms"] = self.time_to_first_token_ms
        data["provenance"] = self.provenance
        data["status"] = self.status
        if self.framework is not None:
            data["framework"] = self.framework
        if self.run_id is not None:
            data["run_id"] = self.run_id
        if self.response_id is not None:
            data["response_id"] = self.response_id
        if self.batch_size is not None:
            data["batch_size"] = self.batch_size
        if self.count_method is not None:
            data["count_method"] = self.count_method
        if self.reservation_id is not None:
            data["reservation_id"] = self.reservation_id
        if self.flags:
            data["flags"] = self.flags
        if self.dimensions:
            data.update(self.dimensions)
        return data


MEASURES: Final = frozenset(
    [
        # What the provider bills, where it says that it is not what it counted.
        *("billed_input_tokens", "billed_output_tokens"),
        # What the provider's own tools did.
        *("web_search_requests", "web_fetch_requests", "code_execution_requests"),
        # Cohere's units beside tokens.
        *("search_units", "classifications"),
        *("images", "audio_seconds"),
        # What the provider says it charged, in US dollars.
        "reported_cost",
    ]
)
"""The keys of `data` under which an event carries what is billed beside tokens."""

DATA_KEYS: Final = frozenset(
    [
        *("model", "request_model", "provider", "operation", "service_tier", "total_tokens"),
        *(each.name for each in fields(TokenUsage)),
        *MEASURES,
        *("prompt_tokens", "completion_tokens", "calls", "duration_ms", "time_to_first_token_ms"),
        *("provenance", "status", "framework", "run_id", "response_id", "batch_size"),
        *("count_method", "reservation_id", "flags"),
        # Reserved for what later events carry, so that nobody's dimension stands in their way.
        *("quantity", "unit", "tokens", "type"),
        # A query that groups by it means the one who pays.
        "subject",
    ]
)
"""The keys of `data` that are ours; no dimension may have one of these names."""


def encode(event: UsageEvent) -> bytes:
    """The event as the JSON that the journal keeps and the sinks send."""
    return dump(event.id, event.source, event.type, event.subject, event.time, event.data())


def check_dimensions(dimensions: Mapping[str, Any]) -> None:
    """Refuse dimensions that are no strings or stand in the way of our own keys.

    Raises:
        SubjectError: Naming the dimension.
    """
    for key, value in dimensions.items():
        if key in DATA_KEYS:
            raise SubjectError(f"dimension {key!r} has the name of a field of the event; rename it")
        if not isinstance(key, str) or not key:
            raise SubjectError(f"a dimension's name is a non-empty string, got {key!r}")
        if not isinstance(value, str):
            raise SubjectError(f"dimension {key!r} must be a string, got {type(value).__name__}")
        if not (is_unicode(key) and is_unicode(value)):
            raise SubjectError(f"dimension {key!r} holds half a character (a lone surrogate)")


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    )


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8, which is whether it holds no lone surrogate.

    JSON may carry one in an escape, and Python takes it; no event could be written then.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
