"""`RemoteUsage`: an OpenMeter server, asked what the ledger is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from ..errors import QueryError, RemoteUsageError
from ..meters import UsageQuery, UsageReport, UsageRow, rfc3339
from ..sinks.openmeter import OpenMeterSink
from ..sinks.server_meters import METER_LISTS, ServerMeter
from .asking import Conversation, GoneError, RefusedError, conversation
from .definitions import check_keys, check_meter, check_period, key_of_provenance
from .questions import Question, questions_of
from .reading import in_order, read_rows

__all__ = ["LIMIT", "RemoteUsage"]

LIMIT: Final = 60.0
"""Seconds for one request; a server reads all events of a period for it."""

_KNOWN_FOR: Final = 60.0
"""Seconds after which a server is asked for its meters anew."""

_NO_KEY: Final = "llm_metering_asks_whether_this_is_looked_at"


class RemoteUsage:
    """Answers questions about usage as the ledger does, by asking an OpenMeter server.

    The server answers from what it has counted, some seconds behind what it acknowledged.
    Safe in several threads.

    Args:
        sink: The sink that sends there: its address, key, API and shape.
        limit: Seconds for each request.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        sink: OpenMeterSink,
        *,
        limit: float = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._meters: dict[str, ServerMeter] = {}
        self._good_until = 0.0
        self._knows_conditions = False

    def __repr__(self) -> str:
        return f"<RemoteUsage {self._sink.name} {self._sink.base} {self._sink.api}>"

    def query(self, query: UsageQuery) -> UsageReport:
        """Report usage; `llm_metering.meters.usage_query` makes the question.

        The report's question is the one that was answered: its bounds are whole seconds.

        Raises:
            QueryError: If the server has no such meter, or its meter cannot answer that.
            RemoteUsageError: If the server gives no answer, or counts something else under the
                meter's name.
        """
        if query.meter.book is not None:
            raise QueryError(
                f"an OpenMeter server does not know {query.meter.slug}: prices stay in the ledger; ask "
                "it, with backend 'ledger'"
            )
        query = _in_seconds(query)
        with conversation(self._sink, self._limit) as server:
            listed = self._meter(server, query)
            provenance = None
            if query.excluded_provenances:
                provenance = key_of_provenance(listed, self._sink)
            rows: list[UsageRow] = []
            for question in questions_of(query, self._sink.api, provenance):
                rows += self._ask(server, listed, query, question)
        return UsageReport(query=query, rows=in_order(rows))

    def _meter(self, server: Conversation, query: UsageQuery) -> ServerMeter:
        """The server's meter, if it answers the question as ours would.

        What is wrong with a meter that was listed a while ago may have been mended since.
        """
        with self._lock:
            known = dict(self._meters) if self._clock() < self._good_until else {}
        try:
            return self._fitting(known, query)
        except (QueryError, RemoteUsageError):
            known = {meter.slug: meter for meter in server.meters()}
        with self._lock:
            self._meters, self._good_until = known, self._clock() + _KNOWN_FOR
        return self._fitting(known, query)

    def _fitting(self, meters: dict[str, ServerMeter], query: UsageQuery) -> ServerMeter:
        listed = meters.get(query.meter.slug)
        if listed is None:
            raise self._unknown(query, meters)
        check_meter(listed, query.meter, self._sink)
        check_keys(listed, query, self._sink)
        check_period(listed, query)
        return listed

    def _ask(
        self, server: Conversation, listed: ServerMeter, query: UsageQuery, question: Question
    ) -> list[UsageRow]:
        name = listed.slug if self._sink.api == "v1" else listed.id
        path = f"{METER_LISTS[self._sink.api][0]}/{quote(name, safe='')}/query"
        try:
            if question.needs_conditions and not self._knows_conditions:
                self._check_conditions(server, path)
            return read_rows(server.rows(path, question.body), query, question.choose)
        except GoneError:
            with self._lock:
                self._meters = {}
            raise self._unknown(query, {each.slug: each for each in server.meters()}) from None
        except RefusedError as error:
            keys = ", ".join(["subject", *sorted(listed.group_by)])
            raise QueryError(
                f"the OpenMeter server of sink {self._sink.name} does not take the question: {error} "
                f"(keys of its meter {listed.slug}: {keys})"
            ) from None
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
            raise server.unreadable() from None

    def _check_conditions(self, server: Conversation, path: str) -> None:
        """Find out whether the server minds a condition, or passes over it: then a number is wrong."""
        body = {
            "from": "2000-01-01T00:00:00Z",
            "to": "2000-01-01T00:00:01Z",
            "advancedMeterGroupByFilters": {_NO_KEY: {"$eq": _NO_KEY}},
        }
        try:
            server.rows(path, body)
        except RefusedError:
            self._knows_conditions = True
            return
        raise RemoteUsageError(
            f"the OpenMeter server of sink {self._sink.name} ({self._sink.base}) passes over "
            "advancedMeterGroupByFilters, which leave out estimates and find events without a key; "
            "OpenMeter has them from v1.0.0-beta.225 (November 2025) on"
        )

    def _unknown(self, query: UsageQuery, meters: dict[str, ServerMeter]) -> QueryError:
        there = ", ".join(map(str, meters.values())) or "no meters at all"
        return QueryError(
            f"the OpenMeter server of sink {self._sink.name} has no meter {query.meter.slug!r}; "
            f"there are {there}"
        )


def _in_seconds(query: UsageQuery) -> UsageQuery:
    start, end = (each and each.replace(microsecond=0) for each in (query.start, query.end))
    if start and end and start == end:
        raise QueryError(
            f"start and end are in one second ({rfc3339(start)}), and OpenMeter keeps whole seconds"
        )
    return replace(query, start=start, end=end)
