"""What the journal says: damage, debts, sinks that are not well, clocks that were set back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ..transport.spool import Debt, Spool
from ..transport.status import home_status
from .finding import Finding, failure, ok, warning
from .segments import Segments, survey_segments

__all__ = ["OLD", "check_journal"]

OLD: Final = timedelta(hours=1)
"""Of an event that still waits."""
FORGOTTEN_AFTER: Final = timedelta(hours=24)
"""For which OpenMeter's deduplication remembers ids, unless it is told otherwise."""
CLOCK_SLACK: Final = timedelta(minutes=1)


def check_journal(
    home: Path,
    *,
    source: str,
    debts: Collection[Debt],
    now: datetime | None = None,
) -> Iterator[Finding]:
    """Look at a home's journal without changing it.

    Args:
        home: The home.
        source: The application's.
        debts: What the configured sinks are owed under.
        now: The time; now, if left out.
    """
    try:
        yield from _check(Spool(home), source, debts, now or datetime.now(UTC))
    except OSError as error:
        yield failure(
            "journal.readable",
            f"{error.filename or home} cannot be read: {error.strerror}",
            means="what waits there is not delivered by this user",
            advice="look at the owner of the files in the home, and run this as the "
            "applications' user",
        )


def _check(spool: Spool, source: str, debts: Collection[Debt], now: datetime) -> Iterator[Finding]:
    segments = survey_segments(spool, configured={debt.key for debt in debts})
    yield from _check_versions(segments)
    if not spool.folder.exists():
        yield ok("journal.recorded", "nothing was recorded here yet")
        return
    status = home_status(spool.home, now=now)
    yield ok("journal.recorded", f"{status['recorded']:,} events were recorded here")
    yield from _check_damage(status, segments)
    yield from _check_clock(segments, now)
    yield from _check_debts(segments, source)
    configured = {(debt.url, debt.account) for debt in debts}
    for row in status["sinks"]:
        yield from _check_sink(row, is_configured=(row["url"], row["account"]) in configured)


def _check_versions(segments: Segments) -> Iterator[Finding]:
    if segments.unknown:
        yield warning(
            "journal.versions",
            f"{len(segments.unknown)} segments are of another version of the journal, such as "
            f"{segments.unknown[0]}",
            means="this version does not deliver what is in them; they stay",
            advice="run `llm-metering drain` with the version of llm-metering that wrote them",
        )


def _check_damage(status: Mapping[str, Any], segments: Segments) -> Iterator[Finding]:
    damage = status["damage"]
    well = True
    if segments.unreadable:
        well = False
        yield failure(
            "journal.segments",
            f"{len(segments.unreadable)} segments cannot be read, such as {segments.unreadable[0]}",
            means="the events in them are not delivered and not counted; they stay",
            advice="look at the files' owner and at the disk; keep the files, and report them if "
            "neither is to blame",
        )
    if damage.get("unreadable_counters"):
        well = False
        yield failure(
            "journal.counters",
            "counters.json cannot be read",
            means="status does not know what segments counted that are gone; nothing is lost or "
            "sent twice",
            advice="keep a copy and restore the file from a backup; if there is none, remove it",
        )
    lost = {name: damage.get(name, 0) for name in ("torn_bytes", "corrupt_bytes")}
    if any(lost.values()):
        well = False
        yield warning(
            "journal.damage",
            f"of dead processes' segments {lost['torn_bytes']:,} bytes were torn, and "
            f"{lost['corrupt_bytes']:,} in their middle are no record",
            means="what was written last before a loss of power, or hit by a bad medium, is lost; "
            "the rest was read",
            advice="compare with your provider's invoice, and look at the disk (dmesg, smartctl)",
        )
    if well:
        yield ok("journal.segments", f"{segments.count} segments, all of them readable")
    dropped = {reason: count for reason, count in status["dropped"].items() if count}
    if dropped:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()))
        yield warning(
            "journal.dropped",
            f"events were dropped since this home was made: {listed}",
            means="no sink that was owed them gets them any more",
            advice="compare with your provider's invoice; the ledger may have what a sink has not",
        )
    if status["failures"]:
        yield warning(
            "journal.failures",
            f"metering itself failed {status['failures']:,} times since this home was made",
            means="calls may be missing, or have less in their events than they could",
            advice="look for `llm_metering` in the application's log",
        )


def _check_clock(segments: Segments, now: datetime) -> Iterator[Finding]:
    newest = segments.newest
    if newest is not None and newest > now + CLOCK_SLACK:
        yield warning(
            "journal.clock",
            f"the newest segment is of {newest:%Y-%m-%d %H:%M:%S} UTC, and the clock says "
            f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            means="the clock was set back, or was wrong: usage may stand in the wrong hour or "
            "month",
            advice="look at the clock (NTP) before anything else is metered",
        )


def _check_debts(segments: Segments, source: str) -> Iterator[Finding]:
    for orphans in segments.orphans:
        debt = orphans.debt
        whose = "" if orphans.source == source else f" of source {orphans.source!r}"
        advice = (
            f"deliver them with that application's settings (LLM_METERING_SOURCE={orphans.source} "
            "llm-metering drain), or give them up with `llm-metering forget`"
            if whose
            else "configure the sink and run `llm-metering drain`, or give them up with "
            "`llm-metering forget`"
        )
        yield warning(
            "journal.debts",
            f"{orphans.events:,} events{whose} are owed to {debt.name} {debt.url}, which is not "
            "configured here, and no living process has it",
            means="nobody delivers them; they stay on disk",
            advice=advice,
            sink=debt.name,
        )


def _check_sink(row: Mapping[str, Any], *, is_configured: bool) -> Iterator[Finding]:
    name, pending = row["name"], row["pending"]
    found = list(_troubles(row)) if is_configured else list(_inconsistent(row))
    yield from found
    if not found:
        whose = "" if is_configured else ", for another configuration"
        yield ok(
            "sink.status",
            f"{row['acked']:,} of {row['recorded']:,} events delivered, {pending:,} pending{whose}",
            sink=name,
        )


def _inconsistent(row: Mapping[str, Any]) -> Iterator[Finding]:
    parts = {name: row[name] for name in ("acked", "pending", "dead", "dropped")}
    if sum(parts.values()) != row["recorded"] or min(parts.values()) < 0:
        listed = " + ".join(f"{count:,} {name}" for name, count in parts.items())
        yield failure(
            "sink.books",
            f"the counts do not add up: {row['recorded']:,} recorded, but {listed}",
            means="something was counted twice or not at all",
            advice="keep a copy of the home, and report this",
            sink=row["name"],
        )


def _troubles(row: Mapping[str, Any]) -> Iterator[Finding]:
    name = row["name"]
    yield from _inconsistent(row)
    if row["state"] == "paused":
        yield failure(
            "sink.status",
            f"it is paused: {row['reason']}",
            means=f"nothing is delivered; {row['pending']:,} events wait on disk",
            advice="only a person can mend it, such as with a new key or another address; it is "
            "tried once a minute",
            sink=name,
        )
    elif row["state"] == "backoff":
        yield warning(
            "sink.status",
            f"its last try failed: {row['reason']}",
            means=f"{row['pending']:,} events wait on disk and are offered again",
            advice="look at the server; nothing is lost while it is away",
            sink=name,
        )
    if row["dead"]:
        yield warning(
            "sink.dead",
            f"it refused {row['dead']:,} events for good",
            means="they are billed nowhere until somebody decides about them",
            advice="`llm-metering dead list` says why; mend it and run `llm-metering dead retry`",
            sink=name,
        )
    age = timedelta(seconds=row["oldest_pending_seconds"] or 0)
    if age > OLD:
        forgotten = age > FORGOTTEN_AFTER and row["url"].startswith("openmeter+")
        yield warning(
            "sink.age",
            f"the oldest of {row['pending']:,} pending events has waited for "
            f"{age.total_seconds() / 3600:.1f} hours",
            means="usage is not billed yet"
            + (
                ", and a server that remembers ids for a day (OpenMeter's default) counts those "
                "twice whose answer was lost"
                if forgotten
                else ""
            ),
            advice="keep a process running that has the sink, or run `llm-metering drain`",
            sink=name,
        )
    if row["suspect"]:
        yield warning(
            "sink.suspect",
            f"{row['suspect']:,} events may have been taken: no answer says what became of them",
            means="they are sent again; who does not deduplicate counts them twice",
            advice="`llm-metering doctor --send` tells whether an OpenMeter server deduplicates"
            if row["url"].startswith("openmeter+")
            else "see that its readers count each event once, by source and id",
            sink=name,
        )
