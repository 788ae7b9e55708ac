"""From rows of a provider's usage to events: one for each bucket and each value of its keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..cloud_events import dump
from ..events import EVENT_TYPE, is_unicode, keyed_event_id
from ..meters.moments import rfc3339
from ..service_tiers import in_mode, served_on
from .fields import RowError
from .values import UsageFile, UsageRow

__all__ = ["MadeEvent", "Payers", "make_events", "refuse_overlaps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payers:
    """Who pays for imported usage.

    Attributes:
        key: The key of a row that names the subject, if one does.
        subject: The subject of all rows, or of those without that key.
    """

    key: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeEvent:
    """An event, and the row that it was made of.

    Attributes:
        where: The row.
        payload: The event.
    """

    where: str
    payload: bytes


def make_events(
    file: UsageFile, payers: Payers, *, source: str, over_at: datetime
) -> tuple[list[MadeEvent], int]:
    """The events of a file, and how many of its rows said again what another one does.

    Args:
        file: What was read.
        payers: Who pays.
        source: The events' CloudEvents source.
        over_at: A bucket that ends later is not complete.

    Raises:
        RowError: If a row's bucket is not over, nobody pays for it, or it contradicts another one.
    """
    made: dict[str, UsageRow] = {}
    again = 0
    for identity, row in _by_bucket(file, over_at).items():
        there = made.setdefault(identity[0], row)
        if there is row:
            continue
        # Two pages that overlap, or one page twice.
        if row.counts != there.counts:
            raise RowError(
                f"{row.where}: it has other numbers than {there.where}, of the same bucket and keys"
            )
        again += 1
    return [
        MadeEvent(where=row.where, payload=_event(file, row, identity, payers, source))
        for identity, row in made.items()
    ], again


def refuse_overlaps(file: UsageFile) -> None:
    """Make sure that no two buckets of a file say the same usage in two ways.

    The same rows again are the same events. But days beside their hours, or usage by project beside
    the same by model, are other events of the same calls.

    Raises:
        RowError: If a bucket lies across another one, or comes twice with other keys each time.
    """
    found: dict[tuple[datetime, datetime], dict[int, dict[str, UsageRow]]] = {}
    for row in file.rows:
        buckets = found.setdefault((row.start, row.end), {})
        buckets.setdefault(row.bucket, {})[_identity(file.kind, row)] = row
    before: UsageRow | None = None
    for (start, _), buckets in sorted(found.items()):
        smaller, *others = sorted(buckets.values(), key=len)
        first = next(iter(smaller.values()))
        if before is not None and start < before.end:
            raise _overlap(first, before)
        if before is None or first.end > before.end:
            before = first
        for rows in others:
            if alone := [row for identity, row in smaller.items() if identity not in rows]:
                raise _overlap(next(iter(rows.values())), alone[0])
            smaller = rows


def _overlap(one: UsageRow, other: UsageRow) -> RowError:
    return RowError(
        f"{one.where}: {other.where} is of the same time in another bucket or by other keys, so both "
        "may say the same usage, which would count twice; import what is grouped in one way alone; if "
        "it is not the same, say --beside-recorded"
    )


def _by_bucket(file: UsageFile, over_at: datetime) -> dict[tuple[str, int], UsageRow]:
    """The rows by identity and by the bucket that they stand in; there, equal keys are added up."""
    rows: dict[tuple[str, int], UsageRow] = {}
    last: dict[tuple[str, int], UsageRow] = {}
    for row in file.rows:
        if row.end > over_at:
            raise RowError(
                f"{row.where}: its bucket ends at {rfc3339(row.end)} and was not over when the file "
                "was written, so it says less than it will; leave it out"
            )
        identity = _identity(file.kind, row), row.bucket
        there = rows.get(identity)
        if there is not None and row.bucket == 0 and row.counts == last[identity].counts:
            raise RowError(
                f"{row.where}: it repeats {last[identity].where}; nobody can tell whether that was "
                "used twice or copied"
            )
        rows[identity] = row if there is None else _sum(there, row)
        last[identity] = row
    return rows


def _identity(kind: str, row: UsageRow) -> str:
    return json.dumps([kind, rfc3339(row.start), rfc3339(row.end), sorted(row.keys.items())])


def _sum(one: UsageRow, other: UsageRow) -> UsageRow:
    # What one of them does not say nobody knows of both.
    counts = {
        name: value + other.counts[name]
        for name, value in one.counts.items()
        if name in other.counts
    }
    is_consistent = one.is_consistent and other.is_consistent
    return replace(one, counts=counts, is_consistent=is_consistent)


def _event(file: UsageFile, row: UsageRow, identity: str, payers: Payers, source: str) -> bytes:
    data: dict[str, Any] = {"provider": file.provider}
    if file.operation is not None:
        data["operation"] = file.operation
    data |= row.counts
    data |= {"provenance": "reported", "status": "completed"}
    tier, flags = _tier(row.keys)
    if not row.is_consistent:
        flags = ("usage_inconsistent", *flags)
    if flags:
        data["flags"] = flags
    data |= row.keys
    if tier is not None:
        data["service_tier"] = tier
    else:
        data.pop("service_tier", None)
    data |= {"bucket_end": rfc3339(row.end), "imported_from": file.kind}
    subject = _subject(file, row, payers)
    event_id = keyed_event_id(source, identity)
    return dump(event_id, source, EVENT_TYPE, subject, row.start, data)


def _tier(keys: Mapping[str, str]) -> tuple[str | None, tuple[str, ...]]:
    """On which tier the usage was, by all that a row says of it: OpenAI has batches apart."""
    tier, flags = served_on(keys.get("service_tier"))
    if keys.get("batch") == "true":
        tier, flags = in_mode(tier, "batch", flags)
    return in_mode(tier, keys.get("speed"), flags)


def _subject(file: UsageFile, row: UsageRow, payers: Payers) -> str:
    if payers.key is not None and payers.key not in file.subject_keys:
        raise RowError(
            f"its rows have no {payers.key!r}; those of {file.kind} may have "
            f"{', '.join(file.subject_keys)}"
        )
    found = row.keys.get(payers.key) if payers.key is not None else None
    subject = found or payers.subject
    if not subject:
        raise RowError(
            f"{row.where}: nobody is named to pay for it"
            + (f", as it has no {payers.key}" if payers.key else "")
            + f"; name a subject, or the key that does: {_choices(file.subject_keys, row.keys)}"
        )
    if not is_unicode(subject):
        named = f"its {payers.key}" if found else "the subject for it"
        raise RowError(f"{row.where}: {named} holds half a character")
    return subject


def _choices(names: Iterable[str], keys: Mapping[str, str]) -> str:
    return ", ".join(name + ("" if name in keys else " (not in this row)") for name in names)
