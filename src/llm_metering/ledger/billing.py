"""What a bill is made of: what everybody used and what it cost, as it was at one moment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, Final, TypeAlias

from ..events import EVENT_TYPE
from ..meters import Book, MeterDefinition, UsageQuery, UsageReport
from ..prices import CREDITS, TOKEN_KINDS, Charge, PriceCard, Unpriced
from ._cards import NO_CURRENCY, UNPRICED, read_card
from ._cost_rows import Range, cover, holding, period_of, rows_behind, rows_from
from ._costs import HALF_BITS, HAS_COSTS, LOW, through_of
from ._from_costs import check_price_version, waiting
from ._lookups import Parameters
from ._pricer import BOOKS, others_of
from ._queries import report
from ._rows import microseconds
from ._windows import moment_of

__all__ = ["Billing", "PriceVersion", "billing", "currencies", "price_versions"]

_EXACT: Final = Context(prec=100)
_BY: Final = "subject, provider, model, provenance, card"
_AMOUNTS: Final = ("events", "calls", *TOKEN_KINDS)
_KEY_WIDTH: Final = 5
_Sums: TypeAlias = dict[tuple[Any, ...], list[int]]
"""Picos and `_AMOUNTS`, by `_BY`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceVersion:
    """A version of prices in a ledger: a list that events were priced with since, or anew.

    Attributes:
        number: Its number; later ones are higher, of both books together.
        book: Of which book.
        time: When it was made, in UTC.
        list_name: What the list is called.
        list_version: Names the list's contents.
    """

    number: int
    book: Book
    time: datetime
    list_name: str
    list_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """What bills are made of, as it was at one moment.

    Attributes:
        start: First moment that counts.
        end: First moment that no longer counts.
        charges: What was used, and what it cost: by subject, provider, model, provenance and prices,
            in this order.
        credits: The same in credits.
        reports: The answers to the questions, in their order.
        version: The version of prices that this is of; asked for again, it gives the same charges for
            the events that were priced by then. 0 before anything was priced.
        versions: The last version of each book by then.
        waiting: How many events of the period have not been priced yet, by book, of money and of each
            other book that is kept: they are in no charge.
    """

    start: datetime
    end: datetime
    charges: list[Charge]
    credits: list[Charge]
    reports: list[UsageReport]
    version: int
    versions: Mapping[Book, PriceVersion]
    waiting: Mapping[Book, int]


def price_versions(connection: sqlite3.Connection) -> list[PriceVersion]:
    """All versions of prices that there are, in order."""
    if connection.execute(HAS_COSTS).fetchone() is None:
        return []
    books = {number: book for book, number in BOOKS.items()}
    found = connection.execute(
        "SELECT version, book, time, list_name, list_version FROM price_versions ORDER BY version"
    )
    return [
        PriceVersion(
            number=number,
            book=books[book],
            time=moment_of(time),
            list_name=name,
            list_version=version,
        )
        for number, book, time, name, version in found
    ]


def currencies(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The currencies of all prices that events were ever priced with, sorted."""
    if connection.execute(HAS_COSTS).fetchone() is None:
        return ()
    none = (UNPRICED, NO_CURRENCY, CREDITS)
    found = connection.execute(
        "SELECT DISTINCT currency FROM price_cards WHERE currency NOT IN (?, ?, ?) ORDER BY 1", none
    )
    return tuple(currency for (currency,) in found)


def billing(
    connection: sqlite3.Connection,
    start: datetime,
    end: datetime,
    *,
    subjects: Sequence[str] | None,
    queries: Iterable[UsageQuery],
    version: int | None,
) -> Billing:
    """Read what bills of a period are made of, in the transaction that the connection is in."""
    versions = price_versions(connection)
    if version is not None:
        check_price_version(connection, version)
    last = version if version is not None else (versions[-1].number if versions else 0)
    by_book = {each.book: each for each in versions if each.number <= last}
    charges: dict[Book, list[Charge]] = {}
    late: dict[Book, int] = {}
    for book in BOOKS:
        if versions:
            charges[book] = list(_charges(connection, book, start, end, subjects, version))
        if version is None and (book == "cost" or book in by_book):
            late[book] = _waiting(connection, book, start, end, subjects, there=bool(versions))
    return Billing(
        start=start,
        end=end,
        charges=charges.get("cost", []),
        credits=charges.get("credits", []),
        reports=[report(connection, each, version=version) for each in queries],
        version=last,
        versions=by_book,
        waiting=late,
    )


def _waiting(
    connection: sqlite3.Connection,
    book: Book,
    start: datetime,
    end: datetime,
    subjects: Sequence[str] | None,
    *,
    there: bool,
) -> int:
    counted = MeterDefinition(slug="events", event_type=EVENT_TYPE, aggregation="COUNT")
    chosen = None if subjects is None else tuple(subjects)
    query = UsageQuery(meter=counted, subjects=chosen, start=start, end=end)
    return waiting(connection, query, through_of(connection, book) if there else 0)


def _charges(
    connection: sqlite3.Connection,
    book: Book,
    start: datetime,
    end: datetime,
    subjects: Sequence[str] | None,
    version: int | None,
) -> Iterator[Charge]:
    since, until = microseconds(start), microseconds(end)
    sums: _Sums = {}
    months: tuple[int | None, int | None] | None = None
    ranges: list[Range] = [(1, since, until)]
    if version is None:
        months, ranges = cover(since, until)
    if months is not None:
        statement, parameters = _of_months(BOOKS[book], months, subjects)
        _add(sums, 1, connection.execute(statement, parameters))
        parameters = Parameters()
        rows = rows_behind(connection, BOOKS[book], "cost_months")
        statement = _of_rows(rows, *months, version, *_chosen(subjects, parameters))
        _add(sums, 1, connection.execute(statement, parameters))
    for each in ranges:
        parameters = Parameters()
        rows = rows_from(connection, BOOKS[book], [each], subjects, parameters)
        statement = _of_rows(rows, *each[1:], version)
        _add(sums, each[0], connection.execute(statement, parameters))
    statement, parameters = _of_others(BOOKS[book], since, until, subjects, version)
    others: dict[tuple[Any, ...], dict[str, Decimal]] = {}
    for *key, text in connection.execute(statement, parameters):
        found = others.setdefault(tuple(key), {})
        for kind, amount in others_of(text).items():
            found[kind] = _EXACT.add(found.get(kind, Decimal(0)), amount)
    cards = dict(connection.execute("SELECT card, text FROM price_cards"))
    # The number of a card is another one in another ledger.
    for key in sorted(sums, key=lambda key: (*key[:-1], cards[key[-1]])):
        picos, events, *amounts = sums[key]
        if events:
            price = read_card(cards[key[-1]])
            yield _charge(key, price, picos, events, amounts, others.get(key))


def _charge(
    key: tuple[Any, ...],
    price: PriceCard | Unpriced,
    picos: int,
    events: int,
    amounts: Sequence[int],
    others: Mapping[str, Decimal] | None,
) -> Charge:
    subject, provider, model, provenance, _ = key
    calls, *tokens = amounts
    quantities: dict[str, int | Decimal] = {
        kind: amount for kind, amount in zip(TOKEN_KINDS, tokens, strict=True) if amount
    }
    if others:
        for kind, amount in sorted(others.items()):
            # What no column holds of a kind of tokens stands here as well.
            total = _EXACT.add(Decimal(quantities.get(kind, 0)), amount)
            quantities[kind] = int(total) if total == total.to_integral_value() else total
    return Charge(
        subject=subject,
        provider=provider or None,
        model=model or None,
        provenance=provenance or None,
        price=price,
        quantities=quantities,
        picos=None if isinstance(price, Unpriced) else picos,
        calls=calls,
        events=events,
    )


def _add(sums: _Sums, sign: int, rows: Iterable[tuple[Any, ...]]) -> None:
    for row in rows:
        key, high, low, *amounts = row[:_KEY_WIDTH], *row[_KEY_WIDTH:]
        added = [(high << HALF_BITS) + low, *amounts]
        found = sums.get(key)
        if found is None and sign == 1:
            sums[key] = added
        else:
            found = found or [0] * len(added)
            sums[key] = [one + sign * other for one, other in zip(found, added, strict=True)]


def _of_months(
    book: int, months: tuple[int | None, int | None], subjects: Sequence[str] | None
) -> tuple[str, Parameters]:
    parameters = Parameters()
    first, last = months
    conditions = [
        f"book = {book} AND window_start >= {first} AND window_start < {last}",
        *_chosen(subjects, parameters),
    ]
    values = ", ".join(f"sum({each})" for each in ("high", "low", *_AMOUNTS))
    statement = (
        f"SELECT {_BY}, {values} FROM cost_months JOIN kinds USING (kind) "
        f"WHERE {' AND '.join(conditions)} GROUP BY {_BY}"
    )
    return statement, parameters


def _of_rows(
    rows: str, since: int | None, until: int | None, version: int | None, *more: str
) -> str:
    conditions = " AND ".join([*period_of("time", since, until), holding(version), *more])
    values = ", ".join(
        f"sum({'1' if each == 'events' else each})"
        for each in (f"ifnull(picos, 0) >> {HALF_BITS}", f"ifnull(picos, 0) & {LOW}", *_AMOUNTS)
    )
    return (
        f"SELECT {_BY}, {values} FROM {rows} JOIN kinds USING (kind) "
        f"WHERE {conditions} GROUP BY {_BY}"
    )


def _of_others(
    book: int, since: int, until: int, subjects: Sequence[str] | None, version: int | None
) -> tuple[str, Parameters]:
    parameters = Parameters()
    conditions = [
        f"book = {book} AND time >= {since} AND time < {until} AND others IS NOT NULL",
        holding(version),
        *_chosen(subjects, parameters),
    ]
    return (
        f"SELECT {_BY}, others FROM costs JOIN kinds USING (kind) WHERE {' AND '.join(conditions)}",
        parameters,
    )


def _chosen(subjects: Sequence[str] | None, parameters: Parameters) -> Iterator[str]:
    if subjects is not None:
        yield f"subject IN (SELECT value FROM json_each({parameters(json.dumps(list(subjects)))}))"
