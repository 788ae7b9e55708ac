"""What a server's meters say of a span, and why that is not what was recorded: to the token.

Source: `queryMeter` of `api/openapi.yaml`, `query-meter` of `api/v3/openapi.yaml` and
`openmeter/streaming/clickhouse/meter_query.go` of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c: events
count from `from` on and before `to`, in whole seconds, and not before the meter's own beginning. A
sum is a float64, exact up to 2^53; v3 writes the same number as a decimal.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from ..errors import ReconcileError
from ..sinks.openmeter import OpenMeterSink
from ..sinks.server_meters import METER_LISTS, ServerMeter, read_meters
from .comparison import Comparison, SumMeter
from .findings import Finding, off_by_subject
from .listing import EventLists
from .pages import PAGE, Listed, rfc3339, span_query
from .span import Span

__all__ = ["MeterTotals", "SubjectTotal", "our_meters", "read_totals"]

_KEY: Final = re.compile(r"\$\.([A-Za-z0-9_]+)")
_EXACT: Final = 1 << 53
_MOST_REQUESTS: Final = 300
"""To find the events of others behind differences that are left."""

ServerMeters = Sequence[tuple[SumMeter, ServerMeter]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectTotal:
    """What a meter says of one subject.

    Attributes:
        subject: Who pays.
        recorded: What was recorded here.
        counted: What the server counts.
        explained: What the findings make it more, or less.
        others: What events add that are not of this ledger; `None` if nobody had to look.
    """

    subject: str
    recorded: Decimal
    counted: Decimal
    explained: Decimal
    others: Decimal | None = None

    @property
    def unexplained(self) -> Decimal:
        """What is left."""
        return self.counted - self.recorded - self.explained - (self.others or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterTotals:
    """What a meter says of the span.

    Attributes:
        slug: Its name.
        key: The property that it sums.
        subjects: Those that were recorded here, by name.
        elsewhere: How many other subjects it knows.
        elsewhere_counted: What it counts for them.
        is_exact: Whether the server's sums can be relied on to the last digit.
        was_cut_short: Whether there were too many events of others to look at all of them.
    """

    slug: str
    key: str
    subjects: tuple[SubjectTotal, ...]
    elsewhere: int
    elsewhere_counted: Decimal
    is_exact: bool = True
    was_cut_short: bool = False

    @property
    def is_explained(self) -> bool:
        """Whether every difference is explained."""
        return all(not each.unexplained for each in self.subjects)


def our_meters(
    lists: EventLists, sink: OpenMeterSink
) -> tuple[list[tuple[SumMeter, ServerMeter]], str | None]:
    """The server's meters that sum a property of what the sink sends, and why there are none.

    Raises:
        ReconcileError: If the server cannot be asked, or does not take the key.
    """
    path, parameters = METER_LISTS[sink.api]
    reply = lists.get(path, parameters)
    listed = read_meters(reply.document) if reply.status == 200 else None
    if listed is None:
        return [], f"the server does not list its meters ({reply.status})"
    found = []
    for meter in listed:
        key = _KEY.fullmatch(meter.value_property)
        if meter.aggregation == "SUM" and meter.event_type == sink.event_type and key:
            ours = SumMeter(
                slug=meter.slug, type=meter.event_type, key=key[1], start=_seconds(meter.since)
            )
            found.append((ours, meter))
    note = None if found else f"no meter of the server sums events of type {sink.event_type}"
    return found, note


def read_totals(
    lists: EventLists,
    sink: OpenMeterSink,
    meters: ServerMeters,
    span: Span,
    comparison: Comparison,
    findings: Iterable[Finding],
    *,
    start: datetime,
    end: datetime,
) -> list[MeterTotals]:
    """Ask each meter for the span by subject, and explain what differs.

    Raises:
        ReconcileError: If the server cannot be asked.
    """
    known = list(findings)
    others = _Others(lists, sink, span, comparison, int(start.timestamp()), int(end.timestamp()))
    totals = []
    for meter, listed in meters:
        counted = _query(lists, sink, listed, start, end)
        recorded = span.sums[meter.slug]
        off = off_by_subject(known, meter.slug)
        subjects = sorted({*recorded, *(subject for subject in off if subject in counted)})
        rows = [
            _explained(
                meter,
                SubjectTotal(
                    subject=subject,
                    recorded=recorded.get(subject, Decimal(0)),
                    counted=counted.get(subject, Decimal(0)),
                    explained=off.get(subject, Decimal(0)),
                ),
                others,
            )
            for subject in subjects
        ]
        elsewhere = [value for subject, value in counted.items() if subject not in subjects]
        totals.append(
            MeterTotals(
                slug=meter.slug,
                key=meter.key,
                subjects=tuple(rows),
                elsewhere=len(elsewhere),
                elsewhere_counted=sum(elsewhere, Decimal(0)),
                is_exact=all(abs(each.counted) <= _EXACT for each in rows),
                was_cut_short=others.was_cut_short,
            )
        )
    return totals


def _explained(meter: SumMeter, total: SubjectTotal, others: _Others) -> SubjectTotal:
    if not total.unexplained:
        return total
    added = sum(
        (meter.value(row) or Decimal(0) for row in others.of(meter.type, total.subject)),
        Decimal(0),
    )
    return SubjectTotal(
        subject=total.subject,
        recorded=total.recorded,
        counted=total.counted,
        explained=total.explained,
        others=added,
    )


class _Others:
    """Events that a server lists for a subject and that are not of this ledger."""

    def __init__(
        self,
        lists: EventLists,
        sink: OpenMeterSink,
        span: Span,
        comparison: Comparison,
        start: int,
        end: int,
    ) -> None:
        self._lists = lists
        self._api = sink.api
        self._span = span
        self._comparison = comparison
        self._start, self._end = start, end
        self._found: dict[tuple[str, str], list[Listed]] = {}
        self._left = _MOST_REQUESTS
        self.was_cut_short = False

    def of(self, event_type: str, subject: str) -> list[Listed]:
        """Those of a type and a subject."""
        known = self._found.get((event_type, subject))
        if known is None:
            rows = list(self._list(event_type, subject, self._start, self._end))
            ours = self._comparison.ours(rows)
            names = self._span.knows([row.id for row in ours])
            mine = {id(row) for row in ours if row.id in names}
            known = [row for row in rows if id(row) not in mine]
            self._found[event_type, subject] = known
        return known

    def _list(self, event_type: str, subject: str, start: int, end: int) -> Iterator[Listed]:
        """All of a span: by halves of it, as long as pages are full.

        Not by the cursor, which passes over what lies on the border, on some servers.
        """
        if not self._left:
            self.was_cut_short = True
            return
        self._left -= 1
        query = span_query(self._api, event_type, subject, start, end)
        rows = self._lists.page(query)
        if len(rows) < PAGE:
            yield from rows
        elif end - start <= 1:
            self.was_cut_short = True
            yield from rows
        else:
            middle = (start + end) // 2
            yield from self._list(event_type, subject, start, middle)
            yield from self._list(event_type, subject, middle, end)


def _query(
    lists: EventLists, sink: OpenMeterSink, meter: ServerMeter, start: datetime, end: datetime
) -> dict[str, Decimal]:
    first, last = rfc3339(int(start.timestamp())), rfc3339(int(end.timestamp()))
    if sink.api == "v1":
        path = f"/api/v1/meters/{quote(meter.slug, safe='')}/query"
        reply = lists.get(path, {"from": first, "to": last, "groupBy": "subject"})
    else:
        path = f"/api/v3/openmeter/meters/{quote(meter.id, safe='')}/query"
        asked = {"from": first, "to": last, "group_by_dimensions": ["subject"]}
        reply = lists.post(path, json.dumps(asked).encode())
    if reply.status != 200:
        raise ReconcileError(f"the server does not say what {meter.slug} counts ({reply.status})")
    counted: defaultdict[str, Decimal] = defaultdict(Decimal)
    try:
        for row in json.loads(reply.content, parse_float=Decimal)["data"]:
            counted[_subject(row)] += Decimal(row["value"])
    except (ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
        raise ReconcileError(
            f"what the server says {meter.slug} counts is in no form known here"
        ) from None
    return counted


def _subject(row: Mapping[str, Any]) -> str:
    dimensions = row.get("dimensions")
    named = dimensions.get("subject") if isinstance(dimensions, dict) else row.get("subject")
    return named if isinstance(named, str) else ""


def _seconds(moment: str) -> int:
    try:
        return int(datetime.fromisoformat(moment).timestamp()) if moment else 0
    except ValueError:
        return 0
