"""What goes into the call table, and what it needs: starts, reports, and two ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Final, Literal, Protocol

import msgspec

from ..events import UsageEvent
from ..exchange import Counted, Exchange, Output
from ..subjects import Attribution
from ..token_usage import TokenUsage

__all__ = [
    "CLOCK_TOLERANCE",
    "CallStart",
    "CallState",
    "Outcome",
    "Recorder",
    "Report",
    "Reported",
    "Reserved",
    "Tokenizer",
    "date_of",
    "interrupted_event",
    "utc_now",
]

Outcome = Literal["completed", "failed", "refused", "aborted"]
"""How a call ended: with an answer; with an error after which tokens may have been spent; by the
provider's refusal, which costs nothing; by its consumer, who left or was cancelled."""

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""A provider's clock that is further off than this does not date a call."""

utc_now: Final[Callable[[], datetime]] = partial(datetime.now, UTC)
"""The clock, unless another one is given."""


class Recorder(Protocol):
    """Where the table writes; the journal."""

    def record(self, event_id: str, payload: bytes) -> None: ...
    def note_open(self, event_id: str, payload: bytes) -> None: ...
    def note_closed(self, event_id: str) -> None: ...
    def count(self, name: str, key: str = "", amount: int = 1) -> None: ...
    def note_late(self, usage: Mapping[str, str | int]) -> None: ...


class Tokenizer(Protocol):
    """What counts text where nobody reported tokens."""

    def guess(self, exchange: Exchange, /) -> Counted:
        """From lengths alone, at once."""

    def submit(self, exchange: Exchange, done: Callable[[Counted], None], /) -> None:
        """Count on another thread, and say what came out; always, and once."""


class Reserved(Protocol):
    """What is reserved of a balance for a call, until its event settles it.

    It is told on whichever thread knows, within garbage collection too: it waits for nothing.
    """

    @property
    def id(self) -> str: ...
    def release(self, then: Callable[[], object], /) -> None:
        """The call costs nothing. `then` is called once nothing is reserved for it any more."""

    def recorded(self) -> None:
        """Its event is recorded."""


class CallState(Enum):
    """Where a call is in its life."""

    OPEN = "open"
    COUNTING = "counting"
    ABANDONED = "abandoned"
    SETTLED = "settled"


def _nothing() -> None:
    return None


# Structs, both: a frozen dataclass takes several times as long to make, twice in every call.
class CallStart(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a call starts, and frozen then.

    Attributes:
        attribution: Who pays.
        framework: `langchain`, `llamaindex`; `None` for a provider's own client.
        operation: `chat`, `text_completion`, `embeddings`.
        provider: Who is asked.
        request_model: The model that is asked for.
        service_tier: The tier that the caller says it is served on.
        run_id: The framework's name for the call.
        request: The request as an object, to recognise a second delivery of the same start by
            its identity. It is never read.
        asked: Gives the request in the JSON shape of its API, to be counted if need be; `None`
            where it is not known.
        so_far: Gives what is known of the call by now, should nobody say how it ends.
        teller: Which handler tells of it. Several may tell of one call, one of them several
            times, and one that did not tell of the start may tell of the end.
        parent: What the call was begun in; once that is over (`owner_is_over`) it should be, too.
        batch: What it has in common with those that are to be sent together with it.
        task: The asyncio task that it was begun in and lives and dies with.
        output_limit: The most tokens that its answer may have, if the caller said so.
        reservation: What is reserved for it, or is to be.
        kept: What the front end keeps of the call while it is in flight; the table never looks
            into it.
    """

    attribution: Attribution
    framework: str | None = None
    operation: str | None = None
    provider: str | None = None
    request_model: str | None = None
    service_tier: str | None = None
    run_id: str | None = None
    request: object = None
    asked: Callable[[], Mapping[str, Any] | None] = _nothing
    so_far: Callable[[], Report] | None = None
    teller: str = ""
    parent: Hashable = None
    batch: Hashable = None
    task: asyncio.Task[Any] | None = None
    output_limit: int | None = None
    reservation: Reserved | None = None
    kept: Any = None

    def __repr__(self) -> str:
        # Not the request: it is a prompt.
        return f"<CallStart {self.framework} {self.operation} {self.run_id} {self.attribution!r}>"


class Reported(Protocol):
    """What settling a call needs of what the provider said; a `Report` is one."""

    @property
    def usage(self) -> TokenUsage | None: ...
    @property
    def is_final(self) -> bool: ...
    @property
    def is_countable(self) -> bool: ...
    @property
    def flags(self) -> tuple[str, ...]: ...


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a front end knows when a call ends.

    Attributes:
        usage: What the provider reported.
        is_final: Whether that is the usage of the whole call.
        provider: Who answered, where the start did not say who was asked.
        operation: Likewise.
        model: The model that answered.
        response_id: The provider's name for the answer.
        service_tier: The tier that the provider says it was served on.
        created: The provider's time of the answer.
        measures: What else is billed, by its key in `data`.
        cached: The framework's cache answered; no provider was asked.
        is_countable: Whether what was not reported may be counted.
        output: Gives the text of the answer, to be counted if need be.
        batch_size: How many prompts were sent in the one request, where the framework makes as
            many calls of it.
        left_out: Why the call makes no event: it is a part of another one's request, or was never
            sent.
        flags: What was odd.
        reason: For a refusal, a short name such as the status code.
        is_last: Whether nothing more is to be expected. An error that is not the last word waits a
            while for one with usage.
    """

    usage: TokenUsage | None = None
    is_final: bool = True
    is_last: bool = True
    provider: str | None = None
    operation: str | None = None
    model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    created: datetime | None = None
    measures: Mapping[str, int | float] = msgspec.field(default_factory=dict)
    cached: bool = False
    is_countable: bool = True
    output: Callable[[], Output] = Output
    batch_size: int | None = None
    left_out: str = ""
    flags: tuple[str, ...] = ()
    reason: str = ""

    def __repr__(self) -> str:
        # Not the output: it is an answer.
        return f"<Report {self.usage!r} is_final={self.is_final} {self.reason} {self.flags}>"


def interrupted_event(
    event_id: str,
    source: str,
    start: CallStart,
    attribution: Attribution,
    now: datetime,
    reservation_id: str | None = None,
) -> UsageEvent:
    """The event of a call of which nothing but its start is known."""
    return UsageEvent(
        id=event_id,
        source=source,
        subject=attribution.subject,
        time=now,
        provenance="missing",
        status="interrupted",
        operation=start.operation,
        provider=start.provider,
        request_model=start.request_model,
        service_tier=start.service_tier,
        framework=start.framework,
        run_id=start.run_id,
        reservation_id=reservation_id,
        flags=attribution.flags,
        dimensions=attribution.dimensions,
    )


def date_of(created: datetime | None, now: datetime) -> datetime:
    """When a call that ends now took place: a provider's odd clock moves none into another month."""
    if created is not None and abs(created - now) <= CLOCK_TOLERANCE:
        return created
    return now
