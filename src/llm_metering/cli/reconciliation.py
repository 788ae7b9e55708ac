"""What `llm-metering reconcile` reports, as data: what `--format json` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from ..reconcile import KINDS, Finding, MeterTotals, Reconciler, off_by_subject
from ..reconcile.pages import rfc3339
from ..settings import Settings
from ..sinks.openmeter import OpenMeterSink
from ..transport.spool import debt_of
from ..transport.status import home_status
from .common import sink_json
from .render import amount
from .tally import delivery_notes

__all__ = ["NAMED", "describe"]

NAMED: Final = 10_000
"""Findings of a kind that the report names; it counts all of them."""


def describe(
    reconciler: Reconciler,
    *,
    settings: Settings,
    sink: OpenMeterSink,
    settle: float,
    lag: float,
    complete: bool,
    notes: Iterable[str],
) -> dict[str, Any]:
    """All that there is to be said.

    Args:
        reconciler: After its work.
        settings: Of the application.
        sink: The sink.
        settle: Seconds between two looks.
        lag: How far the server may be behind.
        complete: Whether this ledger has all that the server counts.
        notes: What else happened.
    """
    by_kind: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for finding in reconciler.findings.values():
        by_kind[finding.kind].append(finding)
    for findings in by_kind.values():
        findings.sort(key=lambda finding: (finding.event.time, finding.event.id))
    wrong = [finding for finding in reconciler.findings.values() if finding.is_fault]
    total_notes = (
        []
        if reconciler.meters or not reconciler.meters_note
        else [f"no totals were compared: {reconciler.meters_note}"]
    )
    return {
        "home": str(settings.home),
        "sink": sink_json(debt_of(sink)),
        "source": settings.source,
        "since": _moment(reconciler.start.timestamp()),
        "until": _moment(reconciler.end.timestamp()),
        "settle": settle,
        "lag": lag,
        "complete": complete,
        "verdict": _verdict(reconciler, wrong, complete=complete),
        "records": reconciler.span.total,
        "events": reconciler.span.sent,
        "well": reconciler.well,
        "counts": {kind: len(found) for kind, found in by_kind.items()},
        "tokens": _tokens(reconciler, by_kind, wrong),
        "findings": [_finding(finding) for found in by_kind.values() for finding in found[:NAMED]],
        "left_out": {
            kind: len(found) - NAMED for kind, found in by_kind.items() if len(found) > NAMED
        },
        "meters": [_meter(totals) for totals in reconciler.meters],
        "resent": _resent(reconciler),
        "requests": reconciler.requests,
        "notes": [
            *notes,
            *_nothing(reconciler, settings),
            *total_notes,
            *_remarks(reconciler),
            *delivery_notes(home_status(settings.home)),
        ],
    }


def _verdict(reconciler: Reconciler, wrong: Sequence[Finding], *, complete: bool) -> str:
    totals_differ = complete and any(
        totals.elsewhere or any(each.others or each.unexplained for each in totals.subjects)
        for totals in reconciler.meters
    )
    if wrong or totals_differ:
        return "faults"
    is_open = any(finding.kind == "unsettled" for finding in reconciler.findings.values())
    return "unsettled" if is_open else "well"


def _tokens(
    reconciler: Reconciler, by_kind: dict[str, list[Finding]], wrong: Sequence[Finding]
) -> dict[str, Any]:
    """How many the bill is off by: by the faults alone, then with what is open."""
    recorded = reconciler.span.sums[""]
    off = off_by_subject(wrong)
    return {
        "recorded": number(sum(recorded.values(), Decimal(0))),
        "off": number(sum(off.values(), Decimal(0))),
        "by_kind": {
            kind: number(sum((each.tokens_off for each in found), Decimal(0)))
            for kind, found in by_kind.items()
            if found
        },
        "by_subject": [
            {
                "subject": subject,
                "recorded": number(recorded.get(subject, Decimal(0))),
                "off": number(amount_off),
            }
            for subject, amount_off in sorted(off.items(), key=lambda item: -abs(item[1]))
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    event = finding.event
    return {
        "kind": finding.kind,
        "id": event.id,
        "event": event.record,
        "type": event.type,
        "subject": event.subject,
        "time": _moment(event.time),
        "tokens": None if event.tokens is None else number(event.tokens),
        "listed": finding.listed,
        "tokens_off": number(finding.tokens_off),
        "is_fault": finding.is_fault,
        "reason": finding.reason,
        "differs": list(finding.differs),
        "attempts": finding.attempts,
    }


def _meter(totals: MeterTotals) -> dict[str, Any]:
    return {
        "slug": totals.slug,
        "property": totals.key,
        "explained": totals.is_explained,
        "exact": totals.is_exact,
        "cut_short": totals.was_cut_short,
        "subjects": [
            {
                "subject": each.subject,
                "recorded": number(each.recorded),
                "counted": number(each.counted),
                "explained": number(each.explained),
                "others": None if each.others is None else number(each.others),
                "unexplained": number(each.unexplained),
            }
            for each in totals.subjects
        ],
        "elsewhere": {
            "subjects": totals.elsewhere,
            "counted": number(totals.elsewhere_counted),
        },
    }


def _resent(reconciler: Reconciler) -> dict[str, Any] | None:
    resent = reconciler.resent
    if resent is None:
        return None
    return {
        "events": resent.replayed.events,
        "taken": len(resent.taken),
        "refused": len(resent.refused),
        "reason": resent.replayed.reason,
    }


def _nothing(reconciler: Reconciler, settings: Settings) -> list[str]:
    """That nothing was looked at is well; for a bill it mostly is the wrong home or source."""
    if reconciler.span.total:
        return []
    origins = settings.origins
    by = f"by {settings.source} ({origins['source']}) in {settings.home} ({origins['home']})"
    return [f"nothing was recorded in this span {by}"]


def _remarks(reconciler: Reconciler) -> list[str]:
    remarks = []
    comparison = reconciler.comparison
    if comparison.no_meter:
        remarks.append(f"{amount(comparison.no_meter)} events are of a type that no meter looks at")
    if comparison.no_customer:
        remarks.append(
            f"{amount(comparison.no_customer)} events are of subjects that are no customer's there"
        )
    if comparison.no_value:
        remarks.append(
            f"{amount(comparison.no_value)} events have nothing for some meter of their type, as they "
            "had when they were recorded"
        )
    if reconciler.books.dropped:
        remarks.append(
            f"the books say that {amount(reconciler.books.dropped)} events which this sink was owed "
            "were given up; some of what is missing may be these"
        )
    remarks += [
        f"{totals.slug} sums beyond 2^53, where the server's numbers are not exact"
        for totals in reconciler.meters
        if not totals.is_exact
    ]
    return remarks


def number(value: Decimal) -> int | str:
    """A whole number as one, and any other as decimal digits."""
    return int(value) if value == value.to_integral_value() else format(value.normalize(), "f")


def _moment(seconds: float) -> str:
    return rfc3339(int(seconds))
