"""What `status` shows: every event of a home accounted for, sink by sink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from .counters import Counters, SinkCounts, locked_counters
from .dispatch import SinkNote
from .journal import Journal
from .late import LATE_NOTES
from .payloads import event_time
from .quarantine import quarantined
from .segment_counts import SegmentCounts, count_segment
from .shipper import Shipper
from .spool import Debt, Spool

__all__ = ["add_live_state", "home_status"]

_sink_notes: Final = msgspec.json.Decoder(SinkNote)


def home_status(home: Path, *, now: datetime | None = None) -> dict[str, Any]:
    """Count what is and was in a home, from its files alone.

    For each sink `recorded = acked + pending + dead + dropped`, always.

    Args:
        home: The home; nothing is created in it.
        now: The time to reckon ages from; now, if left out.

    Returns:
        What `llm-metering status --format json` prints.
    """
    spool = Spool(home)
    total = Counters()
    oldest: dict[str, bytes] = {}
    opened: set[str] = set()
    unreadable = 0
    bytes_left: Counter[str] = Counter()
    if spool.folder.exists():
        with locked_counters(spool, exclusive=False) as total:
            folded = set(total.folded)
            for name in spool.segments():
                if str(name) in folded:
                    continue
                counts = count_segment(spool, name)
                if counts is None:
                    unreadable += not spool.is_empty(name)
                    continue
                total.add(counts)
                # A call's note comes before its end, in the order of segments. The ends are not
                # kept: a backlog has millions of them.
                opened |= counts.opened
                opened -= counts.closed
                _keep_oldest(oldest, counts)
                for key, ack in counts.acks.items():
                    bytes_left[key] += (
                        max(counts.end - ack.offset, 0) if key in counts.oldest else 0
                    )
    return {
        "home": str(home),
        "recorded": total.recorded,
        "dropped": {"disk_full": 0} | total.counts.get("dropped", {}),
        "open_calls": len(opened),
        "failures": sum(total.counts.get("failures", {}).values()),
        "bypassed": sum(total.counts.get("bypassed", {}).values()),
        "refused_calls": sum(total.counts.get("refused_calls", {}).values()),
        "unchecked_calls": sum(total.counts.get("unchecked_calls", {}).values()),
        "unburnt": total.counts.get("unburnt", {}),
        "unanswered_entitlements": total.counts.get("unanswered_entitlements", {}),
        "unfinished_responses": sum(total.counts.get("unfinished_responses", {}).values()),
        "ignored_signals": total.counts.get("ignored_signals", {}),
        "late_usage": {
            what: sum(total.counts.get(name, {}).values()) for name, what in LATE_NOTES.items()
        },
        "damage": {
            "torn_bytes": 0,
            "corrupt_bytes": 0,
            "unreadable_records": 0,
            "unreadable_segments": unreadable,
            "quarantined_segments": len(quarantined(spool)),
        }
        | total.counts.get("damage", {}),
        "flags": {"subject_conflict": 0, "unattributed": 0} | total.flags,
        "sinks": [
            _sink_row(spool, sink, oldest.get(key), now or datetime.now(UTC))
            | {"pending_bytes": bytes_left[key]}
            for key, sink in sorted(total.sinks.items(), key=lambda item: item[1].debt.name)
        ],
    }


def add_live_state(status: dict[str, Any], shippers: Iterable[Shipper], journal: Journal) -> None:
    """Put into what `home_status` returned what only a living process knows."""
    held = journal.held_view()
    status["recorded"] += held.unrecorded
    for (name, key), amount in dict(held.counts).items():
        _add_count(status, name, key, amount)
    # By what makes a sink the same one; its name may have been changed since.
    rows = {(row["url"], row["account"]): row for row in status["sinks"]}
    for shipper in shippers:
        debt = shipper.debt
        row = rows.get((debt.url, debt.account))
        if row is None:
            row = _empty_row(shipper)
            status["sinks"].append(row)
        row["name"] = debt.name
        if shipper.is_running:
            row["state"], row["reason"] = shipper.standing.state, shipper.standing.reason
            row["suspect"] = len(shipper.suspects.since)
        recorded, acked, dead = held.view(debt.key)
        row["recorded"] += recorded
        row["acked"] += acked
        row["dead"] += dead
        row["pending"] += recorded - acked - dead


def _add_count(status: dict[str, Any], name: str, key: str, amount: int) -> None:
    if name in LATE_NOTES:  # by subject
        name, key = "late_usage", LATE_NOTES[name]
    known = status.get(name)
    if isinstance(known, int):
        status[name] = known + amount
    elif isinstance(known, dict):
        known[key] = known.get(key, 0) + amount


def _keep_oldest(oldest: dict[str, bytes], counts: SegmentCounts) -> None:
    # Segments come in the order of their age.
    for key, payload in counts.oldest.items():
        oldest.setdefault(key, payload)


def _sink_row(
    spool: Spool, sink: SinkCounts, oldest: bytes | None, now: datetime
) -> dict[str, Any]:
    note = _read_note(spool, sink.debt)
    return {
        "name": sink.debt.name,
        "url": sink.debt.url,
        "account": sink.debt.account,
        "state": note.state,
        "reason": note.reason,
        "recorded": sink.recorded,
        "acked": sink.acked,
        "pending": sink.recorded - sink.acked - sink.dead - sink.dropped,
        "dead": sink.dead,
        "dropped": sink.dropped,
        "suspect": note.suspect,
        "retries": sink.retries,
        "oldest_pending_seconds": _age(oldest, now),
    }


def _age(oldest: bytes | None, now: datetime) -> float | None:
    time = None if oldest is None else event_time(oldest)
    return None if time is None else max((now - time).total_seconds(), 0.0)


def _read_note(spool: Spool, debt: Debt) -> SinkNote:
    try:
        return _sink_notes.decode(spool.sink_path(debt.key).read_bytes())
    except (OSError, msgspec.DecodeError):
        return SinkNote(debt, "ok", None)


def _empty_row(shipper: Shipper) -> dict[str, Any]:
    counts = dict.fromkeys(
        ("recorded", "acked", "pending", "dead", "dropped", "suspect", "retries"), 0
    )
    debt = shipper.debt
    return {
        "name": debt.name,
        "url": debt.url,
        "account": debt.account,
        "state": shipper.standing.state,
        "reason": shipper.standing.reason,
        **counts,
        "oldest_pending_seconds": None,
        "pending_bytes": 0,
    }
