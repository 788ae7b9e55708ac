"""Several meters' answers in one table, and what its reader must know besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from ..events import UNATTRIBUTED
from ..meters import UsageRow, Value

__all__ = [
    "CALLS",
    "LEDGER_URL",
    "Line",
    "call_notes",
    "delivery_notes",
    "key_notes",
    "tally",
    "total_notes",
    "totals",
]

CALLS: Final = "calls_total"
LEDGER_URL: Final = "ledger:"

_Group: TypeAlias = tuple[datetime | None, tuple[str | None, ...]]


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
    values: Mapping[str, Value] = field(default_factory=dict)


def tally(
    reports: Mapping[str, Iterable[UsageRow]], keys: Sequence[str], *, windowed: bool
) -> list[Line]:
    """Put several meters' answers to one question side by side.

    Args:
        reports: Rows by the meter's slug, grouped by `keys` and by provenance: a meter's sum
            is 0 also where nobody reported anything, and only the provenance says so.
        keys: The columns to group by, in their order.
        windowed: Whether the question had a window.
    """
    groups: dict[_Group, dict[str, Value]] = {}
    for slug, rows in reports.items():
        for row in rows:
            group = (
                row.window_start if windowed else None,
                tuple(row.subject if key == "subject" else row.group_by[key] for key in keys),
            )
            values = groups.setdefault(group, {})
            if _is_known(slug, row):
                values[slug] = values.get(slug, 0) + row.value
    return [Line(*group, values) for group, values in sorted(groups.items(), key=_order)]


def _is_known(slug: str, row: UsageRow) -> bool:
    # Of calls that are not fully reported, a sum of 0 says that nobody named that count. Of
    # missing ones it is always 0.
    return slug == CALLS or row.value != 0 or row.group_by["provenance"] == "reported"


def _order(item: tuple[_Group, object]) -> tuple[float, list[tuple[bool, str]]]:
    (start, names), _ = item
    # What has no name comes last.
    return start.timestamp() if start else 0.0, [(name is None, name or "") for name in names]


def totals(lines: Iterable[Line]) -> Counter[str]:
    """The sum of each meter."""
    sums: Counter[str] = Counter()
    for line in lines:
        sums.update(line.values)
    return sums


def call_notes(calls: Iterable[UsageRow]) -> list[str]:
    """What the sums do not show: counts that are not the provider's, calls nobody pays for.

    Args:
        calls: Rows of `calls_total`, grouped by subject and provenance.
    """
    by_provenance: Counter[str | None] = Counter()
    unattributed = 0
    for row in calls:
        by_provenance[row.group_by["provenance"]] += int(row.value)
        if row.subject == UNATTRIBUTED:
            unattributed += int(row.value)
    remarks = [
        f"{_count(by_provenance[name], 'call')} {meaning}"
        for name, meaning in _PROVENANCE.items()
        if by_provenance[name]
    ]
    if unattributed:
        remarks.append(
            f"{_count(unattributed, 'call')} without a subject: nobody was named who pays, "
            f"so the subject is {UNATTRIBUTED!r}"
        )
    return remarks


def key_notes(lines: Sequence[Line], keys: Sequence[str]) -> list[str]:
    """Which keys no event has: a dimension may have any name, so a misspelt one is no error."""
    return [
        f"no event here has {key!r}: is it a dimension of yours, and spelt like this?"
        for place, key in enumerate(keys)
        if key not in _ALWAYS_THERE and lines and all(line.keys[place] is None for line in lines)
    ]


def total_notes(sums: Mapping[str, Value]) -> list[str]:
    """Why the total is not the sum of its parts, where it is not.

    Args:
        sums: Of all meters, by slug; a sum that nobody knows is absent.
    """
    parts = [sums[slug] for slug in ("tokens_input", "tokens_output") if slug in sums]
    if not parts or sum(parts) == sums.get("tokens_total", 0):
        return []
    return ["total is not input + output: a call whose input or output nobody knows has no total"]


def delivery_notes(statistics: Mapping[str, Any]) -> list[str]:
    """What was recorded and is not in the ledger, from what `status` knows."""
    return [
        f"{_count(sink[outcome], 'event')} {meaning}"
        for sink in statistics["sinks"]
        if sink["url"] == LEDGER_URL
        for outcome, meaning in _NOT_IN_LEDGER.items()
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
_NOT_IN_LEDGER: Final = {
    "pending": "recorded and not in the ledger yet; `llm-metering status` says more",
    "dead": "refused by the ledger; `llm-metering status` says more",
    "dropped": "dropped before they reached the ledger; `llm-metering status` says more",
}
