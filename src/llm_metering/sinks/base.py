"""What a sink is: the one port between the transport and the systems that count and bill.

A third party's sink is any object with these attributes and methods; it needs nothing else
of this library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

import msgspec

__all__ = [
    "Dedupe",
    "Delivery",
    "Envelope",
    "Refusal",
    "Sink",
    "SinkContext",
    "SinkFactory",
    "SinkLimits",
]

Refusal = Literal["content", "size"]
"""Why a server that is well took nothing of a batch."""

Dedupe = Literal["always", "optional", "never", "unknown"]
"""Whether a sink counts an event once that it is sent twice: `optional` is if its operator
switched that on."""


# A Struct, as every event of a backlog becomes one, for every sink: a frozen dataclass takes ten
# times as long to make.
class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An event on its way.

    Attributes:
        id: The event's id, unique in its batch: a batch has one source.
        payload: The CloudEvent in structured JSON, as the journal holds it. A sink that
            wants these bytes sends them as they are.
    """

    id: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkLimits:
    """The largest batch a sink takes, and how long it may be offered the same event.

    Attributes:
        max_events: Events in a batch.
        max_bytes: Bytes of their payloads together. A single larger event goes alone.
        dedupe_window: How long the sink recognises an event it has had; `None` is for ever, or
            that it never does. An event that it may have had longer ago is not offered again.
        dedupe: Whether it recognises one at all, for those who send events again on purpose.

    Raises:
        ValueError: If no event could ever be in a batch.
    """

    max_events: int = 500
    max_bytes: int = 1 << 20
    dedupe_window: timedelta | None = None
    dedupe: Dedupe = "unknown"

    def __post_init__(self) -> None:
        if self.max_events < 1 or self.max_bytes < 1:
            raise ValueError("a batch has room for one event and one byte at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of a batch; every event of it is in exactly one of the three.

    Attributes:
        accepted: Ids the sink now holds, duplicates it already held included.
        retryable: Ids to offer again later.
        rejected: Ids that will never be accepted, with the sink's reason.
        reason: Why something is retryable, for `status`: never a payload, never a secret.
        retry_after: Seconds the sink asked us to wait, if it did.
        hold: Only a person can mend it, such as a wrong key: keep everything and probe once
            in a while.
        refusal: The batch was refused as one, for its `content` or its `size`, and the sink
            cannot say which event is to blame. What is retryable is offered again in smaller
            parts until an event is refused alone.
        blamed: The id of the event that such a refusal seems to name. It is offered alone first;
            a wrong name costs a request.
        ambiguous: The sink may hold some of what is retryable: it was sent, and nothing came
            back that says otherwise.
        unasked: The server was asked about nothing of what is accepted, such as events that it
            has no use for: that says nothing about whether it is well.
    """

    accepted: frozenset[str] = frozenset()
    retryable: frozenset[str] = frozenset()
    rejected: frozenset[tuple[str, str]] = frozenset()
    reason: str | None = None
    retry_after: float | None = None
    hold: bool = False
    refusal: Refusal | None = None
    blamed: str | None = None
    ambiguous: bool = False
    unasked: bool = False

    def takes_all_of(self, batch: Sequence[Envelope]) -> bool:
        """Whether nothing but good is said, and of so many events; it is not looked of which."""
        return len(self.accepted) == len(batch) and not (self.retryable or self.rejected)

    @classmethod
    def all_accepted(cls, batch: Iterable[Envelope]) -> Delivery:
        """The sink holds every event of `batch`."""
        return cls(accepted=frozenset([envelope.id for envelope in batch]))

    @classmethod
    def try_later(
        cls,
        batch: Iterable[Envelope],
        reason: str,
        *,
        retry_after: float | None = None,
        hold: bool = False,
        ambiguous: bool = False,
    ) -> Delivery:
        """The sink holds no event of `batch`, or, if `ambiguous`, nobody knows whether it does."""
        return cls(
            retryable=frozenset(envelope.id for envelope in batch),
            reason=reason,
            retry_after=retry_after,
            hold=hold,
            ambiguous=ambiguous,
        )

    @classmethod
    def refuse(
        cls,
        batch: Iterable[Envelope],
        reason: str,
        refusal: Refusal = "content",
        *,
        blamed: str | None = None,
    ) -> Delivery:
        """The sink holds no event of `batch`, for the sake of one of them or of its size."""
        return cls(
            retryable=frozenset(envelope.id for envelope in batch),
            reason=reason,
            refusal=refusal,
            blamed=blamed,
        )


class Sink(Protocol):
    """Where usage events go.

    `deliver` may be called again with events it has seen: a sink is idempotent on
    `source` + `id`, or says in its documentation that its readers must be. It raises only for
    bugs; an unreachable server is a `Delivery` with everything `retryable`. It is never called
    concurrently with itself, but not always from the same thread.

    Attributes:
        name: How `status` calls it: its scheme, or what `?name=` of its URL says.
        url: Where it delivers, without secrets.
        account: Whose books it writes. Together with `url` it is the sink's identity, which
            the journal's debts are owed to: two applications with two keys for one server
            never ship each other's events. Empty where every application writes one book.
        limits: The largest batch it takes.
    """

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def limits(self) -> SinkLimits: ...

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery: ...

    def close(self) -> None:
        """Let go of connections; a later `deliver` opens them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkContext:
    """What a sink is made with beside its URL.

    Attributes:
        source: The application's name; the account of a sink whose URL names none.
        event_type: The CloudEvents `type` that is wanted where a URL names none.
        event_id: Under which id events are wanted where a URL does not say: `call` or `response`.
        credentials: Keys, passwords and the like by the name of their setting, those that are set;
            never shown.
    """

    source: str
    event_type: str | None = None
    event_id: str = "call"
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


SinkFactory = Callable[[str, SinkContext], Sink]
"""Makes the sink that a URL names, without connecting to it; raises `SinkURLError` if it cannot."""
