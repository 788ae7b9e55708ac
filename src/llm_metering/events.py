"""`UsageEvent`, the record of one LLM call, and its form on the wire.

On the wire it is a CloudEvent 1.0 in structured JSON
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md) whose `data` is a
superset of the event in OpenMeter's own OpenAI example. OpenMeter refuses a null at the top
level of `data`, drops unknown top-level attributes in its v1 API and refuses them in v3: so
there are no nulls, and everything of ours is inside `data`.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from .errors import InvalidUsageError, SubjectError
from .token_usage import MAX_COUNT, TokenUsage

__all__ = [
    "DATA_KEYS",
    "EVENT_TYPE",
    "MEASURES",
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
UNATTRIBUTED: Final = "unattributed"
"""The subject of a call that nobody was named for; kept and flagged, never dropped."""

Provenance = Literal["reported", "partial", "estimated", "missing"]
"""Where the counts come from: all from the provider's final report; some of them; none (we
counted, and `count_method` says how); nothing is known."""

Status = Literal["completed", "failed", "aborted", "cached", "interrupted"]
"""How the call ended; `interrupted` is a call whose process died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
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
        usage: The counts; `None` where nothing is known.
        quantity: How much was used of a unit that is no token: of images, seconds, API calls.
        unit: The unit's name; a call to a model has none.
        measures: What else the provider billed or measured, by its key in `data`: `reported_cost`,
            `web_search_requests`, `billed_input_tokens`, ….
        duration_ms: From the start of the call to its end, in milliseconds.
        time_to_first_token_ms: From the start to the first streamed piece, in milliseconds.
        count_method: How we counted, where the provider did not.
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
    measures: Mapping[str, int | float] = field(default_factory=dict)
    type: str = EVENT_TYPE
    operation: str | None = None
    provider: str | None = None
    model: str | None = None
    request_model: str | None = None
    framework: str | None = None
    run_id: str | None = None
    response_id: str | None = None
    duration_ms: int | None = None
    time_to_first_token_ms: int | None = None
    count_method: str | None = None
    flags: tuple[str, ...] = ()
    dimensions: Mapping[str, str] = field(default_factory=dict)

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
        for key, value in self.measures.items():
            if key not in MEASURES or not _is_number(value):
                raise InvalidUsageError(f"{key!r} is no measure, or its value no finite number")
        check_dimensions(self.dimensions)

    def data(self) -> dict[str, Any]:
        """The event's payload in the `call` shape; what is unknown is absent."""
        data: dict[str, Any] = {
            "model": self.model or self.request_model,
            "request_model": self.request_model,
            "provider": self.provider,
            "operation": self.operation,
        }
        if (usage := self.usage) is not None:
            data["total_tokens"] = usage.total_tokens
            data.update(usage.counts())
            # The names of OpenAI's API, which OpenMeter's example and most meters use.
            data["prompt_tokens"] = usage.input_tokens
            data["completion_tokens"] = usage.output_tokens
            data["reported_total_tokens"] = usage.reported_total_tokens
        data.update(self.measures)
        if self.unit is None or usage is not None:
            # Other units are no calls, so that the sum of `calls` stays their number.
            data["calls"] = 1
        data["quantity"] = self.quantity
        data["unit"] = self.unit
        data["duration_ms"] = self.duration_ms
        data["time_to_first_token_ms"] = self.time_to_first_token_ms
        data["provenance"] = self.provenance
        data["status"] = self.status
        data["framework"] = self.framework
        data["run_id"] = self.run_id
        data["response_id"] = self.response_id
        data["count_method"] = self.count_method
        data["flags"] = self.flags or None
        data.update(self.dimensions)
        return {key: value for key, value in data.items() if value is not None}


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
        *("model", "request_model", "provider", "operation", "total_tokens"),
        *(each.name for each in fields(TokenUsage)),
        *MEASURES,
        *("prompt_tokens", "completion_tokens", "calls", "duration_ms", "time_to_first_token_ms"),
        *("provenance", "status", "framework", "run_id", "response_id", "count_method", "flags"),
        # Reserved for what later events carry, so that nobody's dimension stands in their way.
        *("batch_size", "reservation_id", "quantity", "unit", "tokens", "type"),
        # A query that groups by it means the one who pays.
        "subject",
    ]
)
"""The keys of `data` that are ours; no dimension may have one of these names."""


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was read from the wire."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: dict[str, Any]
    specversion: str = "1.0"


def _plain(value: object) -> str | int | float:
    # msgspec takes no subclass, such as the names that some ORMs and templates hand out, or the
    # floats of numpy.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"an event holds no {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder = msgspec.json.Decoder(CloudEvent)


def encode(event: UsageEvent) -> bytes:
    """The event as the JSON that the journal keeps and the sinks send."""
    return _encoder.encode(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "subject": event.subject,
            "time": format_time(event.time),
            "data": event.data(),
        }
    )


def parse(payload: bytes) -> CloudEvent:
    """Read what `encode` wrote.

    Raises:
        msgspec.DecodeError: If it is no CloudEvent.
        UnicodeDecodeError: If it is no UTF-8.
    """
    return _decoder.decode(payload)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds.

    >>> format_time(datetime(2026, 11, 21, 20, 19, 0, 123456, UTC))
    '2026-11-21T20:19:00.123Z'
    """
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def new_event_id() -> str:
    """Mint the id of a call that starts now: a UUIDv7 (RFC 9562, section 5.7).

    Ids ordered by time keep the ledger's unique index in cache; random ones insert several
    times slower. The random part comes from the kernel for each id: a generator in this
    process would give a forked child the ids of its parent.
    """
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | random
    return _format_uuid(value, version=7)


def keyed_event_id(source: str, key: str) -> str:
    """The id of what the user calls `key`: a UUIDv8 (RFC 9562, section 5.8), the same everywhere.

    >>> keyed_event_id("shop", "order-1") == keyed_event_id("shop", "order-1")
    True
    """
    # A length in front keeps ("a", "bc") and ("ab", "c") apart.
    digest = hashlib.sha256(f"{len(source)}:{source}{key}".encode()).digest()
    return _format_uuid(int.from_bytes(digest[:16]), version=8)


def _format_uuid(value: int, *, version: int) -> str:
    value &= ~(0xF000 << 64) & ~(0xC000 << 48)
    return str(uuid.UUID(int=value | version << 76 | 0x8000 << 48))


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
