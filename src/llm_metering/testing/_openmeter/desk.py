"""What the fake server does with a request, apart from how requests come in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TypeVar

from ..faults import (
    ClaimBeforeWrite,
    Fault,
    Lag,
    LostAfterAccept,
    Poison,
    Redirect,
    Refuse,
    TooLarge,
    Unreadable,
    WriteFails,
)
from ..received import Received
from .books import Books
from .entitlements import ENTITLEMENT_PATH, Entitlements
from .ingest import API, PATHS, Answer, Event, problem_answer, read_events
from .items import Shown
from .listing import LISTS, list_events
from .meter_api import METER_PATH, answer_meter
from .meters import METER_LISTS, check_meters, create_meter, list_meters
from .orders import Order, Orders, Target
from .schema import ATTRIBUTES
from .values import Meter

__all__ = ["Desk", "first_of"]

FaultT = TypeVar("FaultT", bound=Fault)


class Desk:
    """Takes requests, answers them by the book or by order, and notes all of it; thread-safe.

    Attributes:
        changed: Guards everything here, and is notified of every change.
        books: What is counted.
        meters: What the lists of meters show.
        entitlements: What subjects are entitled to.
        received: Every request, in the order in which they came.
        batches: Every batch that was answered with success.
        violations: What was wrong with requests, or would have been dropped.
        hanging: Requests that are held.
    """

    def __init__(
        self,
        books: Books,
        *,
        token: str | None,
        clock: Callable[[], float],
        meters: Sequence[Meter] = (),
        customers: Collection[str] = (),
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.books = books
        self.meters = check_meters(meters)
        self._shown = Shown(self.meters, customers)
        self.entitlements = Entitlements(books.rows, self.meters, clock)
        self.received: list[Received] = []
        self.batches: list[list[Event]] = []
        self.violations: list[str] = []
        self.hanging = 0
        self._orders = Orders()
        self._token = token
        self._clock = clock
        self._held: set[object] = set()
        self._open = True

    def order(self, order: Order) -> None:
        """Take an order."""
        with self.changed:
            self._orders.add(order)

    def clear(self) -> None:
        """Forget all orders."""
        with self.changed:
            self._orders.clear()

    def open(self) -> None:
        """Begin to take requests."""
        with self.changed:
            self._open = True

    def close(self) -> None:
        """Give up on the requests that are held."""
        with self.changed:
            self._open = False
            self.changed.notify_all()

    def release(self) -> int:
        """Let held requests go on; how many there were."""
        with self.changed:
            count = len(self._held)
            self._held.clear()
            self.changed.notify_all()
        return count

    def hang(self) -> bool:
        """Wait to be released; whether that happened, or the server was closed."""
        me = object()
        with self.changed:
            self._held.add(me)
            self.hanging += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: me not in self._held or not self._open)
            self.hanging -= 1
            released = me not in self._held
            self._held.discard(me)
        return released

    def arrive(self, request: Received) -> tuple[int, tuple[Fault, ...]]:
        """Note a request; its number, and the faults that were ordered for it."""
        reads = request.method == "GET" or METER_PATH.fullmatch(request.path) is not None
        target: Target = "list" if reads else "ingest"
        with self.changed:
            faults = self._orders.take(target)
            self.received.append(replace(request, faults=faults))
            self.changed.notify_all()
            return len(self.received) - 1, faults

    def settle(self, number: int) -> Answer:
        """Decide on a request, and count what it brought."""
        with self.changed:
            answer = self._answer(self.received[number])
            self.changed.notify_all()
        # As Go's net/http does: by the clock that events are taken in by, too.
        date = format_datetime(datetime.fromtimestamp(self._clock(), UTC), usegmt=True)
        return replace(answer, headers={"Date": date, **answer.headers})

    def answered(self, number: int, answer: Answer) -> None:
        """Note what a request is being answered."""
        with self.changed:
            self.received[number] = replace(
                self.received[number], status=answer.status, detail=answer.detail
            )
            self.changed.notify_all()

    def _answer(self, request: Received) -> Answer:
        for fault in request.faults:
            if isinstance(fault, Refuse):
                return _refusal(_api_of(request.path), fault)
            if isinstance(fault, Redirect):
                return Answer(fault.status, {"Location": fault.to}, detail="redirected")
        if self._token is not None and request.headers["Authorization"] != f"Bearer {self._token}":
            return problem_answer(_api_of(request.path), 401, "no valid token")
        if request.method == "POST" and request.path in PATHS:
            return self._ingest(PATHS[request.path], request)
        if request.method == "GET" and request.path in LISTS:
            rows, shown = self.books.rows, self._shown
            return list_events(request.path, request.query, rows, shown, now=self._clock())
        if request.method == "GET" and request.path in METER_LISTS:
            return list_meters(request.path, request.query, self.meters)
        if request.method == "POST" and request.path in METER_LISTS:
            return create_meter(request, self.meters)
        if meter := METER_PATH.fullmatch(request.path):
            return answer_meter(request, meter, self.books.rows, self.meters)
        if entitlement := ENTITLEMENT_PATH.fullmatch(request.path):
            return self.entitlements.answer(request, entitlement)
        return self._wrong_address(request)

    def _wrong_address(self, request: Received) -> Answer:
        known = request.path in {*PATHS, *LISTS, *METER_LISTS}
        status, reason = (405, "no such method") if known else (404, "no such path")
        self.violations.append(f"{reason}: {request.method} {request.path}")
        return problem_answer(_api_of(request.path), status, None)

    def _ingest(self, api: API, request: Received) -> Answer:
        limit = first_of(TooLarge, request.faults)
        if limit is not None and _is_too_large(limit, request):
            return problem_answer(api, 413, "the request is too large")
        events = read_events(api, request.headers["Content-Type"], request.body)
        if isinstance(events, Answer):
            self.violations.append(events.detail or "refused")
            return events
        poison = first_of(Poison, request.faults)
        if poison is not None:
            for number, event in enumerate(events):
                if poison.hits(event):
                    detail = f'request body has an error: Error at "/{number}": poisoned'
                    return problem_answer(api, poison.status, detail)
        for event in events:
            for name in sorted(event.keys() - ATTRIBUTES):
                self.violations.append(f"v1 drops the attribute {name!r}")
        if not self._write(events, request.faults):
            return problem_answer(api, 500, None)
        self.batches.append(events)
        unreadable = first_of(Unreadable, request.faults)
        if unreadable is not None:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            return Answer(unreadable.status, headers, b"this is no gzip")
        return Answer(204 if api == "v1" else 202, {})

    def _write(self, events: list[Event], faults: tuple[Fault, ...]) -> bool:
        lost, lagging = first_of(LostAfterAccept, faults), first_of(Lag, faults)
        failing = next((f for f in faults if isinstance(f, ClaimBeforeWrite | WriteFails)), None)
        return self.books.ingest(
            events,
            fails=None if failing is None else failing.hits,
            fails_at=0 if failing is None else failing.at,
            claims=isinstance(failing, ClaimBeforeWrite),
            loses=_nothing if lost is None else lost.hits,
            holds=_nothing if lagging is None else lagging.hits,
        )


def _nothing(_event: Event) -> bool:
    return False


def first_of(kind: type[FaultT], faults: tuple[Fault, ...]) -> FaultT | None:
    """The first fault of a kind."""
    return next((fault for fault in faults if isinstance(fault, kind)), None)


def _api_of(path: str) -> API:
    return "v3" if path.startswith("/api/v3/") else "v1"


def _is_too_large(limit: TooLarge, request: Received) -> bool:
    too_long = limit.max_bytes is not None and len(request.body) > limit.max_bytes
    return too_long or (limit.max_events is not None and len(request.events) > limit.max_events)


def _refusal(api: API, fault: Refuse) -> Answer:
    headers = dict(fault.headers)
    if isinstance(fault.retry_after, datetime):
        moment = fault.retry_after.astimezone(UTC)
        headers["Retry-After"] = format_datetime(moment, usegmt=True)
    elif fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    if fault.body is not None:
        return Answer(fault.status, headers, fault.body, fault.detail)
    if fault.status < 300:
        return Answer(fault.status, headers, detail=fault.detail)
    return problem_answer(api, fault.status, fault.detail, headers=headers)
