"""Asking a server for the events it lists: a few requests at a time, again where it is not well."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from ..errors import ReconcileError
from ..sinks.asking import Asker, Reply, UnreachableError
from ..sinks.openmeter import OpenMeterSink
from .expected import WireEvent
from .pages import PAGE, PATHS, Listed, chunks, frontier_query, page_query, read_page

__all__ = ["IN_FLIGHT", "EventLists", "Found", "pieces"]

IN_FLIGHT: Final = 4
"""Requests at a time; each is a query of the server's database."""
LIMIT: Final = 30.0
"""Seconds for one request."""
PATIENCE: Final = 60.0
"""Seconds that a server may give no answer that can be used, before it is given up."""
LONGEST_WAIT: Final = 15.0
FIRST_WAIT: Final = 0.25
LOOK_EVERY: Final = 0.1
"""Seconds between two looks whether somebody wants an end."""
_AHEAD: Final = 2 * IN_FLIGHT
_PIECE: Final = 1000

_PASSING: Final = frozenset([408, 425, 429, 500, 502, 503, 504])
_TOO_LONG: Final = frozenset([400, 413, 414, 431])
"""What a server or a proxy may answer where the URL is longer than it takes."""

Found = Mapping[str, Sequence[Listed]]
"""What a server lists, by the events' ids."""


class EventLists:
    """The lists of one server.

    Args:
        sink: Which delivers to it: its address, its key and its API.
        asker: Makes the requests.
        should_stop: Asked again and again; `True` ends a look with `KeyboardInterrupt`.
        patience: Seconds that the server may give no answer that can be used.

    Attributes:
        requests: How many were made.
        skew: Seconds that the server's clock is ahead of ours, as far as it tells.
        newest: When the newest event that was listed was taken in, by the server's clock.
    """

    def __init__(
        self,
        sink: OpenMeterSink,
        asker: Asker,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE,
    ) -> None:
        self._api = sink.api
        self._base = sink.base
        self._url = sink.base + PATHS[sink.api]
        self._has_key = sink.token is not None
        self._asker = asker
        self._should_stop = should_stop
        self._patience = patience
        self._lock = threading.Lock()
        self._most_bytes: int | None = None
        self._answered_at = time.monotonic()
        self._broken = False
        self.requests = 0
        self.skew = 0.0
        self.newest = 0.0

    def __repr__(self) -> str:
        return f"<EventLists {self._url} requests={self.requests}>"

    def look(
        self, portions: Iterable[Sequence[WireEvent]], *, broad: bool = False
    ) -> Iterator[tuple[Sequence[WireEvent], Found]]:
        """Ask for events, in their order.

        Args:
            portions: The events, some at a time; no id twice among those of one.
            broad: By their ids alone, whatever time and type they may have there.

        Raises:
            ReconcileError: If the server cannot be asked.
            KeyboardInterrupt: If somebody wants an end.
        """
        self._answered_at = time.monotonic()
        under_way: deque[tuple[Sequence[WireEvent], Future[Found]]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="llm-metering-reconcile") as pool:
            try:
                for portion in self._chunked(portions):
                    under_way.append((portion, pool.submit(self._ask_for, portion, broad)))
                    if len(under_way) >= _AHEAD:
                        asked, answer = under_way.popleft()
                        yield asked, answer.result()
                while under_way:
                    asked, answer = under_way.popleft()
                    yield asked, answer.result()
            finally:
                # Those under way end at their next look; those that wait are not begun.
                self._broken = bool(under_way)
                for _, answer in under_way:
                    answer.cancel()

    def has_newer(self, moment: float) -> bool:
        """Whether the server lists anything, of whomever, that it took in after a moment.

        Args:
            moment: By the server's clock, in seconds since 1970.
        """
        if self.newest > moment:
            return True
        return bool(self._page(frontier_query(self._api, moment)))

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Reply:
        """Ask for something else; a refusal that will not pass is the answer, too.

        Raises:
            ReconcileError: If there is no answer, or the key is not taken.
        """
        return self._try("GET", self._base + path, parameters=parameters)

    def post(self, path: str, body: bytes) -> Reply:
        """Ask with a body."""
        return self._try("POST", self._base + path, body=body, content_type="application/json")

    def page(self, query: str) -> list[Listed]:
        """The events that a query finds, one page of them."""
        return self._page(query)

    def wait(self, seconds: float) -> None:
        """Wait, unless somebody wants an end.

        Raises:
            KeyboardInterrupt: Then.
        """
        until = time.monotonic() + seconds
        while True:
            if self._broken or self._should_stop():
                raise KeyboardInterrupt
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_EVERY))

    def _chunked(self, portions: Iterable[Sequence[WireEvent]]) -> Iterator[list[WireEvent]]:
        for portion in portions:
            yield from chunks(self._api, portion, most_bytes=self._most_bytes)

    def _ask_for(self, events: Sequence[WireEvent], broad: bool) -> Found:
        query = page_query(self._api, events, broad=broad)
        reply = self._try("GET", f"{self._url}?{query}")
        rows: list[Listed]
        if reply.status in _TOO_LONG and len(events) > 1:
            # A proxy that takes less than it should; the next portions are smaller at once.
            with self._lock:
                self._most_bytes = min(self._most_bytes or len(query), len(query)) // 2
            return self._in_halves(events, broad)
        rows = self._rows(reply)
        if len(rows) >= PAGE and len(events) > 1:
            # Its cursor would pass over what lies on the border, on some servers.
            return self._in_halves(events, broad)
        found: defaultdict[str, list[Listed]] = defaultdict(list)
        for row in rows:
            found[row.id].append(row)
        return found

    def _in_halves(self, events: Sequence[WireEvent], broad: bool) -> Found:
        middle = len(events) // 2
        first = self._ask_for(events[:middle], broad)
        return {**first, **self._ask_for(events[middle:], broad)}

    def _page(self, query: str) -> list[Listed]:
        return self._rows(self._try("GET", f"{self._url}?{query}"))

    def _rows(self, reply: Reply) -> list[Listed]:
        if reply.status != 200:
            raise ReconcileError(self._explained(reply.status))
        try:
            rows = read_page(self._api, reply.content)
        except ValueError:
            raise ReconcileError(
                f"{self._url} answers, but not as OpenMeter does; mind the address and ?api="
            ) from None
        newest = max((row.ingested_at for row in rows), default=0.0)
        with self._lock:
            self.newest = max(self.newest, newest)
        return rows

    def _try(self, method: str, url: str, **request: Any) -> Reply:
        """Ask until there is an answer that is not for now alone."""
        attempt = 0
        while True:
            self.wait(0.0)
            with self._lock:
                self.requests += 1
            try:
                reply = self._asker.ask(method, url, **request)
            except UnreachableError as error:
                said, asked_to_wait = error.found, None
            else:
                if reply.status == 401:
                    raise ReconcileError(self._explained(reply.status))
                if reply.status not in _PASSING:
                    self._note(reply)
                    return reply
                said, asked_to_wait = f"the server answers {reply.status}", reply.retry_after
                if asked_to_wait:
                    said += f" and asks to wait {asked_to_wait:.0f} s"
            pause = random.uniform(0, min(FIRST_WAIT * 2**attempt, LONGEST_WAIT))
            pause = max(pause, asked_to_wait or 0.0)
            attempt += 1
            if time.monotonic() + pause > self._answered_at + self._patience:
                raise ReconcileError(f"{self._base} cannot be asked: {said}")
            self.wait(pause)

    def _note(self, reply: Reply) -> None:
        with self._lock:
            self._answered_at = time.monotonic()
            if reply.date:
                try:
                    moment = parsedate_to_datetime(reply.date)
                except ValueError:
                    return
                # Whole seconds: on average it is half a one ahead of what it says.
                self.skew = moment.timestamp() + 0.5 - time.time()

    def _explained(self, status: int) -> str:
        name = _phrase(status)
        if status in (401, 403):
            key = "with the key" if self._has_key else "without a key"
            return (
                f"{self._base} refuses {key} to list events ({name}); "
                "put one that may into OPENMETER_API_KEY"
            )
        if status in (404, 405):
            return f"{self._base} has no list of events ({name}); mind the address and ?api="
        if 300 <= status < 400:
            return f"{self._base} sends us elsewhere ({name}); write that address into the sink"
        return f"{self._base} does not list events ({name})"


def pieces(events: Sequence[WireEvent]) -> Iterator[Sequence[WireEvent]]:
    """A list of events in the portions that `EventLists.look` takes."""
    for start in range(0, len(events), _PIECE):
        yield events[start : start + _PIECE]


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
