"""What our own books say of an event: whether it is still owed to a sink, and when it was given to it.

Nothing is changed by it, and no lock is taken that a shipper waits for. What is owed is noted
before a server is asked, since it may be delivered meanwhile; the segments are read for those
events alone that the server does not list.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from .. import system
from ..transport.frames import Frame, Kind, read_frames
from ..transport.headers import Header, read_header
from ..transport.kept import kept_segments
from ..transport.operations import read_letters
from ..transport.payloads import event_id
from ..transport.spool import Ack, Debt, SegmentName, Spool
from ..transport.status import home_status
from .attempts import replayed_at
from .given import GivenAway, given_by

__all__ = ["Account", "Books", "Letter", "Successor", "dropped_of"]

_STEPS: Final = tuple(1 << exponent for exponent in range(11))
"""How far behind an event its successors are taken: 1, 2, 4, … 1,024 events. Whole batches get lost."""
_BATCH: Final = 100
"""Events that this sink delivers at once, at most."""
_WITH_SUCCESSORS: Final = 2000
"""Events whose successors are looked for. Of more, the files alone say when they were delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter.

    Attributes:
        reason: What the sink said, or what was not sure.
        time: When, in seconds since 1970.
    """

    reason: str
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """An event that was given to the sink later than another one.

    Attributes:
        id: Its id.
        payload: The event, as it was recorded.
    """

    id: str
    payload: bytes


@dataclass(slots=True, kw_only=True)
class Account:
    """What the books say of one event.

    Attributes:
        is_owed: Whether the sink has still to be offered it.
        was_owed: Whether it ever was to be delivered to this sink; `None` if that is not known.
        given_by: When it had been given to the sink at the latest, in seconds since 1970; `None`
            if the books do not know whether it was.
        successors: Events that this sink was given later, in their order.
    """

    is_owed: bool = False
    was_owed: bool | None = None
    given_by: float | None
    successors: list[Successor] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """A segment as it was when the books were opened."""

    ack: Ack
    is_ours: bool


class Books:
    """The books of a home for one sink, as they were at one moment.

    Args:
        spool: The journals' folder.
        debt: The sink.
        source: The CloudEvents source of the events that are asked for.

    Attributes:
        opened: That moment, in seconds since 1970.
        suspects: Events that the sink may have though it did not say so: since when.
        letters: Dead letters of the sink, by the event's id.
        dropped: How many events the sink was owed and never offered, over all the home's time.
        replayed: When the sink was last offered again what it may have had, in seconds since 1970.

    Args:
        has_others: Whether the ledger also has what other homes recorded, which owe it themselves.
    """

    def __init__(
        self,
        spool: Spool,
        debt: Debt,
        *,
        source: str,
        dropped: int = 0,
        has_others: bool = False,
    ) -> None:
        self._spool = spool
        self._debt = debt
        self._source = source
        self._has_others = has_others
        self.replayed = replayed_at(spool.home, debt)
        self.opened = time.time()
        self.dropped = dropped
        self.suspects: dict[str, float] = {}
        self._places: dict[SegmentName, _Place] = {}
        for name in spool.segments():
            self._note(name)
        self.letters = {
            letter.id: Letter(reason=letter.reason, time=_seconds(letter.time))
            for letter in read_letters(spool, debt.key).letters
            if letter.source == source
        }

    def __repr__(self) -> str:
        return f"<Books {self._debt.name} segments={len(self._places)}>"

    def _note(self, name: SegmentName) -> None:
        header = self._spool.header(name)
        if header is None or header.source != self._source:
            return
        is_ours = any(debt.key == self._debt.key for debt in header.debts)
        ack = self._spool.read_ack(name, self._debt.key)
        self._places[name] = _Place(ack, is_ours)
        if is_ours and ack.doubtful > ack.offset:
            for event, end, _ in self._events(name):
                if ack.offset < end <= ack.doubtful:
                    self.suspects[event] = float(ack.since)

    def accounts(self, ids: Collection[str], *, successors: bool) -> Mapping[str, Account]:
        """What the books say of events.

        Args:
            ids: The events.
            successors: Whether it is to be said what was given to the sink after them.

        Returns:
            Each of them.
        """
        wanted = frozenset(ids)
        follow = successors and len(wanted) <= _WITH_SUCCESSORS
        found: dict[str, Account] = {}
        if wanted:
            # Those in the journal first: one that is moved meanwhile is found at one place at least.
            names = self._spool.segments()
            for name in sorted({*names, *self._places, *kept_segments(self._spool)}):
                self._search(name, wanted, found, follow=follow)
        unknown = wanted - found.keys()
        if unknown:
            away = GivenAway(self._spool, has_others=self._has_others)
            found |= {each: Account(given_by=away.by(each)) for each in unknown}
        return found

    def _search(
        self,
        name: SegmentName,
        wanted: Collection[str],
        found: dict[str, Account],
        *,
        follow: bool,
    ) -> None:
        # Without what is in them: a segment may be tens of megabytes.
        events = [(event, end) for event, end, _ in self._events(name)]
        hits = [number for number, (event, _) in enumerate(events) if event in wanted]
        if not hits:
            return
        place = self._places.get(name)
        given = given_by(self._spool, self._debt, name) or self.opened
        followed: dict[int, Account] = {}
        for number in hits:
            event, end = events[number]
            if place is None:
                # Kept before the books were opened, or begun after: then it is owed yet.
                header = self._header(name)
                is_ours = header is not None and self._is_debt_of(header)
                is_owed = is_ours and not self._is_kept(name)
            else:
                is_ours = place.is_ours
                is_owed = is_ours and end > place.ack.offset
            known = found.setdefault(event, Account(given_by=given))
            known.is_owed = known.is_owed or is_owed
            known.was_owed = bool(known.was_owed) or is_ours
            known.given_by = max(known.given_by or 0.0, given)
            if follow and is_ours:
                followed[number] = known
        if followed:
            self._follow(name, followed)

    def _follow(self, name: SegmentName, followed: Mapping[int, Account]) -> None:
        """Note what comes behind events of a segment, by their numbers in it."""
        place = self._places.get(name)
        # Where a batch had to be tried again, the server may have taken the end of it hours before
        # its beginning: then only what was in another batch was surely given to it later.
        nearest = 1 if place is not None and not place.ack.retries else _BATCH
        wanted: dict[int, list[Account]] = {}
        for number, account in followed.items():
            for step in (each for each in _STEPS if each >= nearest):
                wanted.setdefault(number + step, []).append(account)
            account.successors = []
        for number, (event, _, payload) in enumerate(self._events(name)):
            for account in wanted.get(number, ()):
                account.successors.append(Successor(id=event, payload=payload))

    def _events(self, name: SegmentName) -> Iterator[tuple[str, int, bytes]]:
        """The events of a segment of our source: id, where its frame ends, and payload."""
        header = self._header(name)
        if header is None or header.source != self._source:
            return
        for path in (self._spool.segment_path(name), self._spool.kept_path(name)):
            with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
                for frame in _frames(file.fileno()):
                    if frame.kind == Kind.EVENT:
                        event = event_id(frame.payload)
                        if event is not None:
                            yield event, frame.end, frame.payload
                return

    def _header(self, name: SegmentName) -> Header | None:
        for path in (self._spool.segment_path(name), self._spool.kept_path(name)):
            header = read_header(path)
            if isinstance(header, Header):
                return header
        return None

    def _is_debt_of(self, header: Header) -> bool:
        return any(debt.key == self._debt.key for debt in header.debts)

    def _is_kept(self, name: SegmentName) -> bool:
        return self._spool.kept_path(name).exists()


def _frames(descriptor: int) -> Iterator[Frame]:
    """The frames of a segment, read in pieces."""
    size, offset = os.fstat(descriptor).st_size, 0
    while True:
        parsed = read_frames(partial(system.read_at, descriptor), offset, size)
        if not parsed.frames and parsed.end == offset:
            return
        offset = parsed.end
        yield from parsed.frames


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        return 0.0


def dropped_of(home: Path, debt: Debt) -> int:
    """How many events a sink was owed and never offered, over all of a home's time."""
    for row in home_status(home)["sinks"]:
        if (row["url"], row["account"]) == (debt.url, debt.account):
            return int(row["dropped"])
    return 0
