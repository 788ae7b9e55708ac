"""`Intake`: events go into the journal, once; what was taken under an id stays what it is."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..cloud_events import CloudEvent, parse
from ..errors import LedgerError, MeteringError
from ..ledger import KnownEvents
from ..meter import Meter
from .incoming import Incoming
from .problems import Refusal
from .sources import Sources

__all__ = ["Intake", "Taken", "in_files"]

REMEMBERED: Final = 100_000
"""Events that are known without a look at the ledger, where the latest are not yet."""

PATIENCE: Final = 5.0
"""Seconds that a request waits for the disk."""

_RETRY_AFTER: Final = {"Retry-After": "5"}


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the events of a request.

    Attributes:
        recorded: How many were recorded.
        duplicates: How many had been before.
        meters: Who recorded them, or had before.
        events: What there was.
    """

    recorded: int
    duplicates: int
    meters: tuple[Meter, ...]
    events: Sequence[Incoming]


class Intake:
    """Records what comes in, whole requests at a time.

    Args:
        sources: Where events are recorded.
        ledger: Who knows what was recorded long ago; `None` if there is no ledger here.
    """

    def __init__(self, sources: Sources, ledger: KnownEvents | None) -> None:
        self._sources = sources
        self._ledger = ledger
        self._lock = threading.Lock()
        # A dict looks through all that was taken from its beginning before.
        self._recent: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Intake recent={len(self._recent)}>"

    def close(self) -> None:
        """Let go of the ledger."""
        if self._ledger is not None:
            self._ledger.close()

    def look(self) -> None:
        """Look whether the ledger can be read.

        Raises:
            LedgerError: If it cannot.
        """
        if self._ledger is not None:
            self._ledger.payloads(["-"], source="-")

    def take(self, events: list[Incoming]) -> Taken:
        """Record events that were not recorded before; `secure` says when they are safe.

        Raises:
            Refusal: If an id was taken by another event (409), or the ledger cannot be asked now (503):
                nothing is recorded of the request then.
        """
        by_source: dict[str, dict[str, Incoming]] = {}
        for event in events:
            mine = by_source.setdefault(event.source, {})
            known = mine.setdefault(event.id, event)
            if known is not event and known.content != event.content:
                raise _taken(event)
        # One after another: of two who come at once under one id, the second finds the first.
        with self._lock:
            fresh = {source: self._unknown(source, mine) for source, mine in by_source.items()}
            meters = tuple(self._record(source, unknown) for source, unknown in fresh.items())
        recorded = sum(map(len, fresh.values()))
        return Taken(recorded, len(events) - recorded, meters, events)

    async def secure(self, taken: Taken) -> None:
        """Return when the events of a request are in the journals' files.

        Where that takes a sync, all who wait share it.

        Raises:
            Refusal: If the disk takes nothing now (503).
        """
        try:
            await in_files(taken.meters)
        except Refusal:
            # Offered again they are recorded again, wherever those of now will be.
            with self._lock:
                for event in taken.events:
                    self._recent.pop((event.source, event.id), None)
            raise

    def _unknown(self, source: str, events: dict[str, Incoming]) -> list[Incoming]:
        """Those that were not recorded before.

        Raises:
            Refusal: If something else was recorded under the id of one of them.
        """
        rest = {}
        for id, event in events.items():
            digest = self._recent.get((source, id))
            if digest is None:
                rest[id] = event
            elif digest != _digest(event):
                raise _taken(event)
        if not rest or self._ledger is None:
            return list(rest.values())
        try:
            found = self._ledger.payloads(rest, source=source)
        except LedgerError as error:
            raise Refusal(503, "the ledger cannot be read now", headers=_RETRY_AFTER) from error
        for id, payload in found.items():
            if not _is(parse(payload), rest[id]):
                raise _taken(rest[id])
        return [event for id, event in rest.items() if id not in found]

    def _record(self, source: str, events: list[Incoming]) -> Meter:
        try:
            meter = self._sources.of(source)
        except MeteringError as error:
            raise _takes_nothing() from error
        meter.forward((event.id, event.payload) for event in events)
        for event in events:
            self._recent[source, event.id] = _digest(event)
        for _ in range(len(self._recent) - REMEMBERED):
            self._recent.popitem(last=False)
        return meter


async def in_files(meters: Iterable[Meter]) -> None:
    """Return when what meters have recorded is in their journals' files.

    Raises:
        Refusal: If the disk takes nothing now (503).
    """
    for meter in meters:
        future = meter.secured()
        if future is None:
            continue
        try:
            await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE)
        except Exception as error:
            raise _takes_nothing() from error


def _takes_nothing() -> Refusal:
    return Refusal(503, "the journal takes no events now; offer them again", headers=_RETRY_AFTER)


def _taken(event: Incoming) -> Refusal:
    return Refusal(
        409,
        "another event was recorded under this source and id",
        reason="id taken",
        event=event.number,
    )


def _digest(event: Incoming) -> bytes:
    return hashlib.blake2b(event.content, digest_size=16).digest()


def _is(recorded: CloudEvent, event: Incoming) -> bool:
    """Whether an event is the one that was recorded; one without a time comes at another time again."""
    given = parse(event.payload)
    same = (recorded.type, recorded.subject, recorded.data) == (
        given.type,
        given.subject,
        given.data,
    )
    return same and (not event.dated or recorded.time == given.time)
