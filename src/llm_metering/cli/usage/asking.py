"""The options that say which usage is meant, and the `Question` they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Annotated

import typer

from ...errors import QueryError
from ...meters import MeterDefinition, UsageQuery, rfc3339, time_zone_of, usage_query
from ..periods import moment_of

__all__ = [
    "BackendOption",
    "EveryOption",
    "FilterOption",
    "FromOption",
    "HumanOption",
    "Question",
    "SubjectOption",
    "TimeZoneOption",
    "ToOption",
    "WatchOption",
    "question_of",
]

SubjectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--subject",
        metavar="SUBJECT",
        help="Only this subject; may be repeated.",
        show_default=False,
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="First moment: a day, a month (2026-11), today, yesterday, now, -7d, -24h, -30m, or "
        "ISO 8601 with offset.",
        show_default=False,
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="First moment after the period.", show_default=False),
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="KEY=VALUE",
        help="Only events with this value; may be repeated, of one key for any of several values. "
        "KEY= stands for events that lack the key.",
        show_default=False,
    ),
]
TimeZoneOption = Annotated[
    str,
    typer.Option("--time-zone", metavar="ZONE", help="Whose days these are: a name of IANA."),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="BACKEND",
        help="Whom to ask: ledger, or an OpenMeter sink by its name. The ledger by default.",
        show_default=False,
    ),
]
HumanOption = Annotated[
    bool, typer.Option("--human", help="Large numbers as 1.23 M, and the exact sums below.")
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.", show_default=False)
]
EveryOption = Annotated[
    float,
    typer.Option(
        "--every", metavar="SECONDS", min=0.1, max=86_400, help="With --watch: how often to look."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which events to count, whatever is counted.

    Attributes:
        meters: The meters there are.
        subjects: Only these, or everybody's.
        start: First moment that counts.
        end: First moment that no longer counts.
        filters: Values of keys.
        time_zone: Whose days these are.
        asked_at: When it was asked.
    """

    meters: Mapping[str, MeterDefinition]
    subjects: tuple[str, ...] | None = None
    start: datetime | None = None
    end: datetime | None = None
    filters: Mapping[str, tuple[str, ...]]
    time_zone: str = "UTC"
    asked_at: datetime

    @property
    def zone(self) -> tzinfo:
        """Whose days these are."""
        return time_zone_of(self.time_zone)

    @property
    def is_narrow(self) -> bool:
        """Whether events may be left out of the answer."""
        return bool(self.subjects or self.start or self.end or self.filters)

    def about(
        self, meter: str, group_by: Iterable[str] = (), *, window: str | None = None
    ) -> UsageQuery:
        """The question about one meter.

        Raises:
            QueryError: If it makes no sense.
        """
        return usage_query(
            meter,
            subject=self.subjects,
            window=window,
            start=self.start,
            end=self.end,
            group_by=group_by,
            filters=self.filters,
            time_zone=self.time_zone,
            meters=self.meters,
        )


def question_of(
    meters: Mapping[str, MeterDefinition],
    *,
    subject: Iterable[str] | None,
    start: str | None,
    end: str | None,
    filters: Iterable[str] | None,
    time_zone: str,
) -> Question:
    """Read the options.

    Raises:
        QueryError: Naming the option, its value and what it may be.
    """
    zone = time_zone_of(time_zone)
    now = datetime.now(UTC)
    first, last = moment_of("--from", start, zone, now), moment_of("--to", end, zone, now)
    if first and last and first >= last:
        raise QueryError(f"--from ({rfc3339(first)}) must be before --to ({rfc3339(last)})")
    return Question(
        meters=meters,
        subjects=tuple(subject) if subject else None,
        start=first,
        end=last,
        filters=_filters(filters or ()),
        time_zone=time_zone,
        asked_at=now,
    )


def _filters(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    filters: dict[str, tuple[str, ...]] = {}
    for each in given:
        key, sign, value = each.partition("=")
        if not sign or not key:
            raise QueryError(
                f"--filter {each!r} is no KEY=VALUE; write --filter model=gpt-5-mini, or "
                "--filter model= for events without a model"
            )
        if key == "subject":
            raise QueryError(f"--filter {each!r}: choose subjects with --subject")
        filters[key] = (*filters.get(key, ()), value)
    return filters
