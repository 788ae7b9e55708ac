"""Several meters' answers in one table, and what its reader must know besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeAlias

from ..events import UNATTRIBUTED
from ..meters import ESTIMATES, MeterDefinition, UsageQuery, UsageReport, UsageRow
from .render import Number

__all__ = [
    "CALLS",
    "LEDGER_URL",
    "Group",
    "Line",
    "call_notes",
    "delivery_notes",
    "key_notes",
    "names_of",
    "note_queries",
    "tally",
    "total_notes",
    "totals",
]

CALLS: Final = "calls_total"
LEDGER_URL: Final = "ledger:"

Group: TypeAlias = tuple[datetime | None, tuple[str | None, ...]]


@dataclass(frozen=True, slots=True)
class Line:
    """Usage of one group, by meter.

    Attributes:
        window_start: When the group's window starts; `None` for the whole period.
        keys: The value of each key it is grouped by.
        values: By the meter's slug; a count that nobody knows is absent, it is not 0.
    """

    window_start: datetime | None
    keys: tuple[str | None, ...]
    values: Mapping[str, Number] = field(default_factory=dict)


def tally(
    reports: Mapping[str, Iterable[UsageRow]], keys: Sequence[str], *, windowed: bool
) -> list[Line]:
    """Put several meters' answers to one question side by side.

    Args:
        reports: Rows by the meter's slug, grouped by `keys`.
        keys: The columns to group by, in their order.
        windowed: Whether the question had a window.
    """
    groups: dict[Group, dict[str, Number]] = {}
    for slug, rows in reports.items():
        for row in rows:
            group = (row.window_start if windowed else None, names_of(row, keys))
            groups.setdefault(group, {})[slug] = row.value
    return [Line(*group, values) for group, values in sorted(groups.items(), key=_order)]


def names_of(row: UsageRow, keys: Sequence[str]) -> tuple[str | None, ...]:
    """The value of each key a row is grouped by."""
    return tuple(row.subject if key == "subject" else row.group_by[key] for key in keys)


def _order(item: tuple[Group, object]) -> tuple[float, list[tuple[bool, str]]]:
    (start, names), _ = item
    # What has no name comes last.
    return start.timestamp() if start else 0.0, [(name is None, name or "") for name in names]


def totals(lines: Iterable[Line]) -> dict[str, Number]:
    """The sum of each meter."""
    sums: dict[str, Number] = {}
    for line in lines:
        for slug, value in line.values.items():
            sums[slug] = sums.get(slug, 0) + value
    return sums


def note_queries(calls: UsageQuery) -> list[UsageQuery]:
    """What to ask for `call_notes`, beside a question about calls."""
    queries = [replace(calls, window=None, group_by=("provenance",))]
    if calls.subjects is None or UNATTRIBUTED in calls.subjects:
        queries.append(replace(calls, window=None, group_by=(), subjects=(UNATTRIBUTED,)))
    return queries


def call_notes(
    reports: Sequence[Iterable[UsageRow]], meters: Iterable[MeterDefinition] = ()
) -> list[str]:
    """What the sums do not show: counts that are not the provider's, calls nobody pays for.

    Args:
        reports: The answers to `note_queries`; none, if nobody asked.
        meters: What was counted; where it leaves estimates out, and there are some, a note says so.
    """
    by_provenance: Counter[str | None] = Counter()
    for row in reports[0] if reports else ():
        by_provenance[row.group_by["provenance"]] += int(row.value)
    unattributed = sum(int(row.value) for report in reports[1:] for row in report)
    remarks = [
        f"{_count(by_provenance[name], 'call')} {meaning}"
        for name, meaning in _PROVENANCE.items()
        if by_provenance[name]
    ]
    if any(by_provenance[name] for name in ESTIMATES):
        remarks += [
            f"{meter.slug} leaves out what is estimated or partial"
            for meter in meters
            if not meter.estimates
        ]
    if unattributed:
        remarks.append(
            f"{_count(unattributed, 'call')} without a subject: nobody was named who pays, "
            f"so the subject is {UNATTRIBUTED!r}"
        )
    return remarks


def price_notes(reports: Iterable[UsageReport]) -> list[str]:
    """What amounts are of, and how many events are in none since they have no price."""
    remarks = []
    for report in reports:
        slug = report.query.meter.slug
        if report.query.meter.book == "cost" and report.currency is not None:
            remarks.append(f"{slug} is in {report.currency}")
        if report.unpriced:
            remarks.append(
                f"{_count(report.unpriced, 'event')} without a price, in no sum of {slug}: "
                "`llm-metering prices missing` says of which models, and once there are prices "
                "`llm-metering reprice --unpriced-only` works them out"
            )
    return remarks


def key_notes(lines: Sequence[Line], keys: Sequence[str]) -> list[str]:
    """Which keys no event has: a dimension may have any name, so a misspelt one is no error."""
    return [
        f"no event here has {key!r}: is it a dimension of yours, and spelt like this?"
        for place, key in enumerate(keys)
        if key not in _ALWAYS_THERE and lines and all(line.keys[place] is None for line in lines)
    ]


def total_notes(sums: Mapping[str, Number]) -> list[str]:
    """Why the total is not the sum of its parts, where it is not.

    Args:
        sums: Of all meters, by slug; a sum that nobody knows is absent.
    """
    parts = [sums[slug] for slug in ("tokens_input", "tokens_output") if slug in sums]
    if not parts or sum(parts) == sums.get("tokens_total", 0):
        return []
    return ["total is not input + output: a call whose input or output nobody knows has no total"]


def delivery_notes(
    statistics: Mapping[str, Any], *, url: str = LEDGER_URL, place: str = "the ledger"
) -> list[str]:
    """What was recorded and is not where the answers come from, from what `status` knows.

    Args:
        statistics: Of the home.
        url: Of the sink that is asked.
        place: What to call it.
    """
    return [
        f"{_count(sink[outcome], 'event')} {meaning.format(place=place)}; "
        "`llm-metering status` says more"
        for sink in statistics["sinks"]
        if sink["url"] == url
        for outcome, meaning in _NOT_THERE.items()
        if sink[outcome]
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


_ALWAYS_THERE: Final = frozenset(["subject", "model", "provider"])
"""Fields whose value may be unknown."""
_PROVENANCE: Final = {
    "estimated": "estimated: the provider reported no tokens, so they were counted here",
    "partial": "partial: the provider reported only some of the counts",
    "missing": "missing: how many tokens were used is not known, and no sum has them",
}
_NOT_THERE: Final = {
    "pending": "recorded and not in {place} yet",
    "dead": "refused by {place}",
    "dropped": "dropped before they reached {place}",
}
