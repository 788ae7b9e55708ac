"""Pricing again what was priced: under a new version of prices, beside what was said before.

A row is never changed but for the version that superseded it, so that each earlier version can still be
asked for. An event whose price stays the same keeps its row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from ..events import EVENT_TYPE
from ..meters import Book
from ..prices import PriceList
from ._cards import NO_CURRENCY, UNPRICED
from ._cost_sums import replace_in_sums
from ._costs import (
    ROW_COLUMNS,
    insert_rows,
    known_names,
    number_names,
    through_of,
    version_of,
)
from ._files import check_version
from ._from_costs import amount_of
from ._from_events import stretches
from ._handle import Handle
from ._pricer import BOOKS, EVENT_COLUMNS, Priced, Pricer
from ._rows import microseconds
from .pricing import AT_ONCE

__all__ = ["Change", "Chosen", "Repriced", "reprice"]

_PICOS: Final = ROW_COLUMNS.index("picos")
_CARD: Final = ROW_COLUMNS.index("card")
_DECIDED: Final = ROW_COLUMNS[_CARD:]
_EVENT: Final = ", ".join(f"e.{each}" for each in EVENT_COLUMNS.split(", ")[:-1])
_SUPERSEDE: Final = """
    UPDATE costs SET superseded = ?
    WHERE book = ? AND superseded IS NULL AND (place, version) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
    )
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How the cost of a model's events changed.

    Attributes:
        provider: As the events have it.
        model: As the events have it.
        currency: Of the amounts; `None` of what costs nothing in any.
        before: What those events cost whose price changed.
        after: What they cost now.
        events: How many they are.
        newly_priced: How many of them had no price.
        no_longer_priced: How many of them have none now.
    """

    provider: str | None
    model: str | None
    currency: str | None
    before: Decimal
    after: Decimal
    events: int
    newly_priced: int
    no_longer_priced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repriced:
    """What pricing again has done, or would do.

    Attributes:
        version: The version of prices that holds the changes; `None` if nothing changed, or nothing
            was to be written.
        events: How many events were priced again.
        unpriced: How many of them have no price still, or now.
        without_body: How many were left as they are, since their body was pruned.
        changes: By provider, model and currency, in this order.
    """

    version: int | None
    events: int
    unpriced: int
    without_body: int
    changes: tuple[Change, ...]


@dataclass(slots=True)
class _Sum:
    """What becomes a change."""

    before: int = 0
    after: int = 0
    events: int = 0
    newly_priced: int = 0
    no_longer_priced: int = 0


@dataclass(slots=True)
class _Found:
    """What was found so far."""

    version: int | None = None
    events: int = 0
    unpriced: int = 0
    without_body: int = 0
    sums: dict[tuple[str, str, str], _Sum] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Old:
    """A row that holds, of an event that is to be priced again."""

    version: int
    currency: str
    decided: tuple[Any, ...]
    event: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which events to price again.

    Attributes:
        start: First moment that counts.
        end: First moment that no longer counts.
        subjects: Only these.
        unpriced_only: Only those that have no price.
    """

    start: datetime | None = None
    end: datetime | None = None
    subjects: tuple[str, ...] | None = None
    unpriced_only: bool = False


def reprice(
    handle: Handle, book: Book, prices: PriceList, chosen: Chosen, *, dry_run: bool
) -> Repriced:
    """Price again what was priced; see `Ledger.reprice`."""
    with handle.writing():
        pass  # opened for writing, a file of an older schema is brought to ours
    with handle.reading() as reader:
        assert reader is not None
        reader.execute("BEGIN")
        check_version(reader)
        pieces = list(_pieces(reader, book, chosen))
        cards, kinds = known_names(reader)
    pricer = Pricer(book, prices, cards=cards, kinds=kinds, event_type=EVENT_TYPE)
    found = _Found()
    for behind, through in pieces:
        while True:
            olds = _olds(handle, book, behind, through, chosen)
            with_body = [old for old in olds if old.event[-1]]
            rows = pricer.rows(old.event for old in with_body)
            # Numbers of new cards are below 0 in these rows.
            currencies = {number: name[1] for name, number in pricer.cards.known.items()}
            changed = [
                (old, row)
                for old, row in zip(with_body, rows, strict=True)
                if row[_CARD:] != old.decided
            ]
            if dry_run or not changed:
                break
            version = _write(handle, book, prices, pricer, (behind, through), changed, found)
            if version is not None:
                found.version = version
                break
        _take_note(found, olds, rows, changed, currencies)
    return Repriced(
        version=found.version,
        events=found.events,
        unpriced=found.unpriced,
        without_body=found.without_body,
        changes=tuple(
            Change(
                provider=provider or None,
                model=model or None,
                currency=None if currency == NO_CURRENCY else currency,
                before=amount_of(each.before),
                after=amount_of(each.after),
                events=each.events,
                newly_priced=each.newly_priced,
                no_longer_priced=each.no_longer_priced,
            )
            for (provider, model, currency), each in sorted(found.sums.items())
        ),
    )


def _pieces(
    connection: sqlite3.Connection, book: Book, chosen: Chosen
) -> Iterator[tuple[int, int]]:
    """Places that are looked at together: behind one, through another."""
    last = through_of(connection, book)
    bounds = [None if each is None else microseconds(each) for each in (chosen.start, chosen.end)]
    for behind, through in stretches(connection, *bounds):
        until = min(through, last)
        for start in range(behind, until, AT_ONCE):
            yield start, min(start + AT_ONCE, until)


def _olds(handle: Handle, book: Book, behind: int, through: int, chosen: Chosen) -> list[_Old]:
    conditions = ["c.superseded IS NULL"]
    asked: dict[str, Any] = {"book": BOOKS[book], "behind": behind, "through": through}
    for name, sign, moment in (("start", ">=", chosen.start), ("end", "<", chosen.end)):
        if moment is not None:
            conditions.append(f"c.time {sign} :{name}")
            asked[name] = microseconds(moment)
    if chosen.subjects is not None:
        conditions.append("c.subject IN (SELECT value FROM json_each(:subjects))")
        asked["subjects"] = json.dumps(chosen.subjects)
    if chosen.unpriced_only:
        conditions.append("c.picos IS NULL")
    decided = ", ".join(f"c.{each}" for each in _DECIDED)
    with handle.reading() as reader:
        assert reader is not None
        reader.execute("BEGIN")
        check_version(reader)
        found = reader.execute(
            f"SELECT c.version, currency, {decided}, {_EVENT}, CAST(e.payload AS BLOB) "
            "FROM costs AS c CROSS JOIN events AS e ON e.rowid = c.place "
            "JOIN price_cards USING (card) "
            "WHERE c.book = :book AND c.place > :behind AND c.place <= :through "
            f"AND {' AND '.join(conditions)} ORDER BY c.place",
            asked,
        )
        width = len(_DECIDED)
        return [
            _Old(version, currency, tuple(rest[:width]), tuple(rest[width:]))
            for version, currency, *rest in found
        ]


def _write(
    handle: Handle,
    book: Book,
    prices: PriceList,
    pricer: Pricer,
    piece: tuple[int, int],
    changed: list[tuple[_Old, Priced]],
    found: _Found,
) -> int | None:
    """Write what changed; the version that has it, or `None` if somebody else was faster."""
    with handle.writing() as writer:
        writer.execute("BEGIN IMMEDIATE")
        check_version(writer)
        (newest,) = writer.execute(
            "SELECT max(version) FROM price_versions WHERE book = ?", (BOOKS[book],)
        ).fetchone()
        version = found.version
        if version is None or newest != version:
            # What is in an earlier version stays as it is.
            version = version_of(writer, book, prices, anew=True)
        those = json.dumps([(old.event[0], old.version) for old, _ in changed])
        superseded = writer.execute(_SUPERSEDE, (version, BOOKS[book], those))
        if superseded.rowcount != len(changed):
            writer.execute("ROLLBACK")
            return None
        rows = number_names(writer, [row for _, row in changed], pricer.cards, pricer.kinds)
        insert_rows(writer, book, version, rows)
        replace_in_sums(writer, BOOKS[book], *piece, version=version)
        writer.execute("COMMIT")
    return version


def _take_note(
    found: _Found,
    olds: list[_Old],
    rows: list[Priced],
    changed: list[tuple[_Old, Priced]],
    currencies: dict[int, str],
) -> None:
    found.events += len(rows)
    found.without_body += len(olds) - len(rows)
    found.unpriced += sum(row[_PICOS] is None for row in rows)
    for old, row in changed:
        # Place, time, subject, provider, model, ….
        provider, model = old.event[3] or "", old.event[4] or ""
        was, before = old.currency, old.decided[1]
        becomes, after = currencies[row[_CARD]], row[_PICOS]
        for currency in {was, becomes} - {UNPRICED}:
            each = found.sums.setdefault((provider, model, currency), _Sum())
            each.events += 1
            each.before += before if currency == was else 0
            each.after += after if currency == becomes else 0
            each.newly_priced += was == UNPRICED
            each.no_longer_priced += becomes == UNPRICED
