"""`Ledger`: the sink that can be asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ..errors import LedgerError, QueryError
from ..meters import Book, UsageQuery, UsageReport
from ..prices import PriceList
from ..sinks._payload import UnusableEventError
from ..sinks.base import Delivery, Envelope, SinkLimits
from ._columns import folder_of, forget_columns
from ._events import (
    is_fed_by_topics,
    moments_after,
    payloads_of,
    sources_of,
    subjects_of,
    without_body,
)
from ._files import UnavailableError
from ._from_costs import check_price_version
from ._listing import list_events
from ._patience import patience
from ._priced_events import PricedEvents
from ._queries import report
from ._rows import EPOCH, Row, inserts, microseconds, read_row
from .listing import EventQuery, ListedEvent
from .pruning import Pruned, prune, pruned_before, sizes
from .pruning import compact as give_back
from .recounting import Difference, differences, has_rollups
from .verification import Head, Verification
from .verifying import verify_ledger

__all__ = ["Ledger"]

_TOO_LONG: Final = "this takes longer than {}; ask for a shorter period, for longer windows, or for keys of the meter alone"


class Ledger(PricedEvents):
    """Keeps every event once, for ever, and answers questions about them.

    It is a sink: a batch is on the disk, and in the sums, when `deliver` says that it is
    accepted. Many processes may share one file. It opens the file when it first delivers, and
    again after `close` and after a fork.

    Args:
        path: The SQLite file; it and its folder are made, for this user only, when needed.
        keys: Secrets that events are signed with, so that `verify` finds what was tampered with. The
            first signs, once there is one; with the others they were signed before. Without one of the
            keys that a ledger is signed with, nothing is added to it.
        time_limit: Seconds for the answers to `query` and `query_all`; none, if left out.
    """

    name = "ledger"
    url = "ledger:"
    account = ""
    # More than a server is sent at once: each batch ends with a sync of the medium, which takes as
    # long as to insert several hundred events.
    limits = SinkLimits(max_events=2000, max_bytes=4 << 20, dedupe="always")

    def __repr__(self) -> str:
        return f"<Ledger {self.path}>"

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        rows: dict[str, Row] = {}
        rejected: set[tuple[str, str]] = set()
        for envelope in batch:
            try:
                rows[envelope.id] = read_row(envelope.payload)
            except UnusableEventError as error:
                rejected.add((envelope.id, str(error)))
        try:
            if rows:
                self._insert(list(rows.values()))
        except UnavailableError as error:
            return Delivery(
                retryable=frozenset(rows),
                rejected=frozenset(rejected),
                reason=str(error),
                hold=error.hold,
            )
        return Delivery(accepted=frozenset(rows), rejected=frozenset(rejected))

    def query(self, query: UsageQuery, *, version: int | None = None) -> UsageReport:
        """Report usage; `llm_metering.meters.usage_query` makes the question.

        A ledger that nothing was delivered to yet has an empty report. What events cost is known as
        far as they were priced, by `price`; `unpriced` of the report says how many were not.

        Args:
            query: The question.
            version: Of prices: what events cost that were priced by then, as it was then. Left out, as
                it is now.

        Raises:
            QueryError: If the question groups by a key that cannot be looked up, there is no such
                version, amounts of several currencies would have to be added up, or it takes too long.
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        return self.query_all([query], version=version)[0]

    def query_all(
        self, queries: Iterable[UsageQuery], *, version: int | None = None
    ) -> list[UsageReport]:
        """Answer several questions at one moment: what is recorded meanwhile is in no answer.

        Args:
            queries: The questions.
            version: As in `query`.

        Raises:
            QueryError: As in `query`.
            LedgerError: As in `query`.
        """
        queries = tuple(queries)
        if version is None:
            self._sum_up(queries)
        with self._reading() as connection:
            if connection is None:
                if version is not None:
                    check_price_version(None, version)
                return [UsageReport(query=query) for query in queries]
            with patience(connection, self.time_limit, _TOO_LONG):
                return [report(connection, query, version=version) for query in queries]

    def moments(
        self, start: datetime | None, end: datetime | None, *, source: str
    ) -> Iterator[tuple[str, int]]:
        """Id and time, in microseconds since 1970, of each event of a period, in no order of time.

        Nothing is kept open between two pieces of the answer. An event that is recorded meanwhile
        may be missing from it.

        Args:
            start: First moment that counts.
            end: First moment that no longer counts.
            source: Of events of this CloudEvents source alone.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        bounds = [None if each is None else microseconds(each) for each in (start, end)]
        after: str | None = ""
        while after is not None:
            with self._reading() as connection:
                found = moments_after(connection, source, after, *bounds) if connection else []
            yield from found
            after = found[-1][0] if found else None

    def payloads(self, ids: Iterable[str], *, source: str) -> dict[str, bytes]:
        """The CloudEvents of those ids that there are, as they were delivered, by id.

        An event whose body was given up by `prune` is none of them.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return payloads_of(connection, source, ids) if connection else {}

    def without_body(self, ids: Iterable[str], *, source: str) -> set[str]:
        """Those of the ids that are of events whose body was given up by `prune`.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return without_body(connection, source, ids) if connection else set()

    def sources(self) -> list[str]:
        """The CloudEvents sources that there are events of, sorted.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return sources_of(connection) if connection else []

    def events(self, query: EventQuery) -> list[ListedEvent]:
        """Events themselves, the latest first.

        Raises:
            QueryError: If it takes too long, or the ledger does not say when events came.
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return list_events(connection, query) if connection else []

    def subjects(self) -> dict[str, tuple[datetime, datetime]]:
        """Whoever there are events of, sorted, with the time of the first and of the last of them, in UTC.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return subjects_of(connection) if connection else {}

    def is_fed_by_topics(self) -> bool:
        """Whether it has taken in events from a broker, which other homes have recorded.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return connection is not None and is_fed_by_topics(connection)

    def pruned_before(self) -> datetime | None:
        """The moment before which events may have no body; `None` if none was ever given up.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            moment = pruned_before(connection) if connection else None
        return None if moment is None else EPOCH + timedelta(microseconds=moment)

    def prune(
        self,
        before: datetime,
        *,
        compact: bool = False,
        lists: Mapping[Book, PriceList] | None = None,
    ) -> Pruned:
        """Give up the bodies of events of before a moment; what they counted stays.

        Sums stay as they are, and an event that comes again is known. What only a body says is
        gone: such an event cannot be sent again, and a question that needs a body of before that
        moment is refused. Columns beside the ledger are deleted. Older libraries (schema 2 and
        before) can no longer use the ledger: their events wait in the journal until they are
        upgraded.

        It takes the ledger for some tens of milliseconds at a time, with pauses. If it is broken off,
        what was done stays done; call it again.

        Args:
            before: The moment.
            compact: Whether to give the space back to the disk. All others wait for as long as that
                takes, and it needs as much free space as the ledger has in the end, twice. Without,
                new events use the space.
            lists: What events are priced by first that have not been priced yet, as `price` takes
                them. An event without a body can no longer be priced.

        Raises:
            QueryError: If the moment has no time zone or is still to come.
            LedgerError: If the file cannot be written, or a newer library wrote it.
        """
        if before.tzinfo is None:
            raise QueryError(f"before ({before.isoformat()}) needs a time zone")
        if before > datetime.now(UTC):
            raise QueryError(f"before ({before.isoformat()}) is still to come")
        if lists:
            self.price(lists)
        events = prune(self._handle, microseconds(before)) if self.path.exists() else 0
        try:
            forget_columns(self.path)
        except OSError as error:
            raise LedgerError(
                f"the ledger has given the bodies up, but {folder_of(self.path)} may have some: "
                f"{error.strerror}; delete it"
            ) from error
        if compact and self.path.exists():
            give_back(self._handle)
        free, size = sizes(self._handle) if self.path.exists() else (0, 0)
        return Pruned(events=events, free=free, size=size)

    def recount(self, *, most: int = 100) -> list[Difference]:
        """Count again from the events all that was ever added up, and say what differs.

        It reads all of the ledger as it is at one moment, which takes seconds for each million
        events; nobody who writes or reads waits for it.

        Args:
            most: How many rows of each table are named at most.

        Returns:
            Nothing, if every sum is right.

        Raises:
            LedgerError: If the file cannot be read, or if it is of an older schema still: then it
                is counted anew when something is delivered to it.
        """
        with self._reading() as connection:
            if connection is None:
                return []
            if not has_rollups(connection):
                raise LedgerError(
                    "the ledger has an older schema; all is counted anew when something is delivered"
                )
            return differences(connection, most)

    def verify(self, *, head: Head | None = None, most: int = 100) -> Verification:
        """Find what somebody has changed, removed or inserted without the key, and count all anew.

        It reads all of the ledger as it is at one moment; nobody who writes or reads waits for it.

        Args:
            head: The end of the ledger at an earlier time, which was kept elsewhere: what was cut off
                since then is found by it alone.
            most: How much of what is found is named.

        Raises:
            LedgerError: If the ledger was signed with a key that is not known here, or a newer library
                wrote it.
        """
        return verify_ledger(self.path, self.keys, head=head, most=most)

    def close(self) -> None:
        self._handle.close()

    def _insert(self, rows: list[Row]) -> None:
        with self._handle.inserting() as connection:
            most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
            for statement, parameters in inserts(rows, most_parameters=most):
                connection.execute(statement, parameters)
