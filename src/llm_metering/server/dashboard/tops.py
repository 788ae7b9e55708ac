"""`Top`: who used the most, and what the others come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...meters import UsageReport

__all__ = ["Place", "Top", "top_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One of the largest.

    Attributes:
        name: Who it is; `None` if the events do not say.
        value: What was used.
        share: Which part of all that is; `None` where values do not add up.
        length: How long its bar is, of the longest one's 100.
    """

    name: str | None
    value: Any
    share: float | None
    length: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """The largest of a report.

    Attributes:
        key: What they are.
        places: The largest, the first first.
        others: How many others there are.
        rest: What they come to; `None` where values do not add up.
        rest_share: Which part of all that is.
    """

    key: str
    places: tuple[Place, ...]
    others: int = 0
    rest: Any = None
    rest_share: float | None = None


def top_of(report: UsageReport, key: str, most: int = 10) -> Top:
    """The largest by a key, by which the report has rows."""
    values: dict[str | None, Any] = {}
    for row in report.rows:
        name = row.subject if key == "subject" else row.group_by[key]
        # Chosen subjects have rows of their own, whatever else there is a row for.
        values[name] = values[name] + row.value if name in values else row.value
    ranked = sorted(values, key=lambda name: (-values[name], name is None, name or ""))
    total = sum(values.values()) if report.adds_up else None
    longest = max((abs(values[name]) for name in ranked[:most]), default=0)
    rest = sum(values[name] for name in ranked[most:]) if report.adds_up else None
    return Top(
        key=key,
        places=tuple(
            Place(
                name=name,
                value=values[name],
                share=_share(values[name], total),
                length=round(100 * max(float(values[name]), 0) / float(longest), 2)
                if longest
                else 0,
            )
            for name in ranked[:most]
        ),
        others=max(len(ranked) - most, 0),
        rest=rest,
        rest_share=_share(rest, total),
    )


def _share(value: Any, total: Any) -> float | None:
    return float(value) / float(total) if total and value is not None else None
