"""Servers that outlive the processes that send to them, and keep a ledger of all they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from llm_metering.sinks.base import Delivery, Envelope, SinkLimits
from llm_metering.transport.spool import Debt, debt_of

from .harness import FakeClock

MOODS = (
    *("takes all", "takes the first", "takes all but one", "is down", "loses the answer"),
    *("loses the request", "answers in part", "rejects one", "refuses the content"),
    *("blames one", "refuses the size", "holds", "asks to wait", "raises", "raises behind"),
)
"""What a server does with a batch."""
AMBIGUOUS = ("loses the answer", "loses the request", "answers in part", "raises behind", "raises")
"""What leaves open whether it has taken a batch."""


@dataclass(frozen=True)
class Mood:
    """What a server does with the next batch, and the event of it that this is about."""

    name: str = "takes all"
    which: int = 0


@dataclass
class Server:
    """One account of a server; the sink of every process that sends there.

    Attributes:
        name: The sink's.
        account: The sink's.
        limits: The sink's.
        clock: Its clock.
        dedupes: Whether it counts what it has had within the limits' window once.
        on_taking: Told of each event before it is stored.
        on_answer: Told of each batch that was answered.
        mood: What it does next.
        taken: The payloads of each event, as often as it took it.
        counted: How often it counted each event.
        refused: Events that it will never take.
        answered: Events that it has said something final of.
        doing: What it does now.
    """

    name: str
    account: str
    limits: SinkLimits
    clock: FakeClock
    dedupes: bool
    on_taking: Callable[[Server, Envelope], None]
    on_answer: Callable[[Server, Sequence[Envelope]], None]
    mood: Mood = Mood()
    taken: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    counted: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    doing: str = ""
    _known_since: dict[str, float] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.name}:"

    @property
    def debt(self) -> Debt:
        return debt_of(self)

    def close(self) -> None:
        """There is nothing to let go of."""

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        delivery = self._answer(batch)
        self.answered |= delivery.accepted | {event_id for event_id, _ in delivery.rejected}
        self.on_answer(self, batch)
        return delivery

    def _answer(self, batch: Sequence[Envelope]) -> Delivery:
        mood, self.mood = self.mood, Mood()
        self.doing = mood.name
        which = batch[mood.which % len(batch)]
        others = [each for each in batch if each is not which]
        match mood.name:
            case "takes all":
                return self._take(batch)
            case "takes the first":
                return self._take(batch[:1])
            case "takes all but one":
                return self._take(others)
            case "is down":
                return Delivery.try_later(batch, "unreachable")
            case "loses the answer":
                self._take(batch)
                return Delivery.try_later(batch, "timeout", ambiguous=True)
            case "loses the request":
                return Delivery.try_later(batch, "timeout", ambiguous=True)
            case "answers in part":
                self._take(batch)
                return Delivery(accepted=frozenset([which.id]) - self.refused, ambiguous=True)
            case "rejects one":
                answer = self._take(others)
                if mood.which % 2 == 0:  # for good
                    self.refused.add(which.id)
                return replace(answer, rejected=answer.rejected | {(which.id, "no")})
            case "refuses the content":
                return Delivery.refuse(batch, "bad")
            case "blames one":
                return Delivery.refuse(batch, "bad", blamed=which.id)
            case "refuses the size":
                return Delivery.refuse(batch, "large", "size")
            case "holds":
                return Delivery.try_later(batch, "401", hold=True)
            case "asks to wait":
                return Delivery.try_later(batch, "429", retry_after=30.0)
            case "raises behind":
                self._take(batch)
        raise ConnectionResetError(mood.name)

    def _take(self, batch: Sequence[Envelope]) -> Delivery:
        good = [each for each in batch if each.id not in self.refused]
        for each in good:
            self.on_taking(self, each)
            self.taken[each.id].append(each.payload)
            if self._is_new(each.id):
                self.counted[each.id] += 1
                self._known_since[each.id] = self.clock()
        refused = frozenset((each.id, "no") for each in batch if each not in good)
        return replace(Delivery.all_accepted(good), rejected=refused)

    def _is_new(self, event_id: str) -> bool:
        since = self._known_since.get(event_id)
        window = self.limits.dedupe_window
        if not self.dedupes or since is None:
            return True
        return window is not None and self.clock() - since > window.total_seconds()


def limits(max_events: int, window: float | None = None) -> SinkLimits:
    """The limits of a server that remembers events for so many seconds."""
    return SinkLimits(
        max_events=max_events, dedupe_window=None if window is None else timedelta(seconds=window)
    )
