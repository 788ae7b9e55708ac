"""`Reading`: what a provider's response says of its call, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from ..token_usage import TokenUsage

__all__ = ["NOTHING", "Ending", "Reading", "moment", "name_of"]

Ending = Literal["completed", "failed", "refused", "unfinished"]
"""How the provider says a call ended: with an answer (a cut one, too); with an error after which
tokens may have been spent; by a refusal, for which nobody pays; or not yet, as one that is polled
for says until its answer is there."""

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_LONGEST_NAME: Final = 1000
_OTHER_UNITS: Final = frozenset(["images", "audio_seconds", "search_units"])


# Not frozen, though nobody changes one: a frozen one takes twice as long to make, a fifth of the
# time that reading a response takes in all. It lives from one function to the next.
@dataclass(slots=True, kw_only=True)
class Reading:
    """What a response says of its call.

    Attributes:
        shape: Whose form it has, such as `openai.chat`; for errors and tests.
        provider: OpenTelemetry's `gen_ai.provider.name`, where the response shows it.
        operation: `chat`, `text_completion`, `embeddings`, …
        usage: The counts; `None` where the response reports none.
        is_final: Whether these are the counts of the whole call: a stream that was cut has
            reported its input, and of its output only what there was by then.
        model: The model that answered.
        response_id: The provider's name for the answer.
        service_tier: The tier that the provider says it served the call on, in its own word.
        created: The provider's time of it, aware UTC.
        measures: What else is billed or was measured, by its key in an event's `data`:
            `billed_input_tokens`, `web_search_requests`, `reported_cost`, …
        ending: How the call ended.
        reason: For a call that failed or was refused, a short code; never a message.
        cached: Whether the answer came out of a cache in front of the provider, who was not asked.
        flags: What was odd.
    """

    shape: str
    provider: str | None = None
    operation: str | None = None
    usage: TokenUsage | None = None
    is_final: bool = True
    model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    created: datetime | None = None
    measures: Mapping[str, int | float] = field(default_factory=lambda: NOTHING)
    ending: Ending = "completed"
    reason: str = ""
    cached: bool = False
    flags: tuple[str, ...] = ()

    @property
    def is_countable(self) -> bool:
        """Whether what was not reported may be counted: not what is billed by images, seconds, searches."""
        return self.usage is not None or _OTHER_UNITS.isdisjoint(self.measures)


def moment(value: object) -> datetime | None:
    """A provider's time, in Unix seconds, a `datetime` or RFC 3339, as aware UTC; `None` if it is none."""
    try:
        if type(value) is int:
            return datetime.fromtimestamp(value, UTC)  # nearly all of them
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo is not None else None
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            return parsed.astimezone(UTC) if parsed.tzinfo is not None else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def name_of(value: object) -> str | None:
    """A name that a server chose, made fit to be written down; `None` if it is none.

    A server may send anything: half a character, with which no event could be written, or a name
    without an end.
    """
    if type(value) is str and 0 < len(value) <= _LONGEST_NAME and value.isascii():
        return value  # nearly all of them
    if not isinstance(value, str) or not value:
        return None
    value = value[:_LONGEST_NAME]
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="replace").decode()
    return str.__str__(value)
