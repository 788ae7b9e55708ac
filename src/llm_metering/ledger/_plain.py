"""Pricing events of tokens alone within SQLite, which takes a third of the time.

It says the same of them as `Pricer`, which has priced others like them before: what it found is given to
SQLite as a table of rates. Whatever is not that plain is left to `Pricer`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from ..events import EVENT_TYPE
from ._costs import KIND_COLUMNS
from ._pricer import EVENT_COLUMNS, Found, Pricer

__all__ = ["insert_plain", "left_over"]

_LARGEST: Final = 1 << 28
"""Tokens of an event that SQLite prices: with rates no larger than `_DEAREST` no cost is near 2^62."""
_DEAREST: Final = 1 << 31
_MOST: Final = 1 << 62
_FEW: Final = 8
"""Periods of a price: where it goes by the time of day there are hundreds, which SQLite would look
through for each event."""

_KINDS: Final = ("input", "cache_read", "cache_write", "output", "reasoning")
_RATES: Final = """
    CREATE TEMP TABLE IF NOT EXISTS rates (
        model TEXT NOT NULL, provider TEXT NOT NULL, tier TEXT NOT NULL,
        since INTEGER NOT NULL, until INTEGER NOT NULL,
        above INTEGER NOT NULL, most INTEGER NOT NULL,
        card INTEGER NOT NULL, is_priced INTEGER NOT NULL,
        input INTEGER, cache_read INTEGER, cache_write INTEGER, output INTEGER, reasoning INTEGER,
        PRIMARY KEY (model, provider, tier, since, above)
    ) WITHOUT ROWID
    """
_RATE: Final = f"INSERT INTO temp.rates VALUES ({', '.join('?' * 14)})"

_AMONG: Final = "rowid > :behind AND rowid <= :through AND type = :type"
_READ: Final = "ifnull(cache_read_input_tokens, 0)"
_WRITTEN: Final = "ifnull(cache_creation_input_tokens, 0)"
_REASONING: Final = "ifnull(reasoning_output_tokens, 0)"
_PLAIN: Final = f"""
    SELECT rowid AS place, time, subject, type, ifnull(provider, '') AS provider,
        ifnull(model, '') AS model, ifnull(provenance, '') AS provenance,
        ifnull(status, '') AS status, ifnull(calls, 0) AS calls, plain_tier, input_tokens,
        input_tokens - {_READ} - {_WRITTEN} AS input, {_READ} AS cache_read,
        {_WRITTEN} AS cache_write, output_tokens - {_REASONING} AS output, {_REASONING} AS reasoning
    FROM main.events
    WHERE {_AMONG} AND plain_tier IS NOT NULL AND payload <> ''
        AND input_tokens + output_tokens BETWEEN 1 AND {_LARGEST}
        AND {_READ} + {_WRITTEN} <= input_tokens AND {_REASONING} <= output_tokens
    """
_HAS_RATES: Final = " AND ".join(f"(e.{kind} = 0 OR r.{kind} IS NOT NULL)" for kind in _KINDS)
_PICOS: Final = " + ".join(f"ifnull(e.{kind} * r.{kind}, 0)" for kind in _KINDS)
_INSERT: Final = f"""
    INSERT INTO costs (
        book, version, place, time, subject, kind, card, picos, calls,
        input, cache_read, cache_write, cache_write_1h, input_audio, input_image, input_video,
        output, reasoning, output_audio, output_image
    )
    SELECT :book, :version, e.place, e.time, e.subject, k.kind, r.card,
        CASE WHEN r.is_priced THEN {_PICOS} END, e.calls,
        e.input, e.cache_read, e.cache_write, 0, 0, 0, 0, e.output, e.reasoning, 0, 0
    FROM ({_PLAIN}) AS e
    CROSS JOIN temp.rates AS r ON r.model = e.model AND r.provider = e.provider
        AND r.tier = e.plain_tier AND e.time >= r.since AND e.time < r.until
        AND e.input_tokens > r.above AND e.input_tokens <= r.most
    CROSS JOIN main.kinds AS k ON {" AND ".join(f"k.{each} = e.{each}" for each in KIND_COLUMNS)}
    WHERE NOT r.is_priced OR ({_HAS_RATES})
    ORDER BY e.place
    """
_COUNT: Final = f"SELECT count(*) FROM main.events WHERE {_AMONG}"
_LEFT_OVER: Final = f"""
    SELECT {EVENT_COLUMNS.replace("payload", "CAST(payload AS BLOB)")} FROM main.events
    WHERE {_AMONG} AND NOT EXISTS (
        SELECT 1 FROM costs WHERE book = :book AND place = events.rowid
    )
    ORDER BY rowid
    """


def insert_plain(
    connection: sqlite3.Connection, book: int, version: int, places: tuple[int, int], pricer: Pricer
) -> int:
    """Price the plain events of a stretch of places, as far as the pricer has met others like them.

    Args:
        connection: In a transaction.
        book: The number of the book.
        version: The version of prices.
        places: The place before the first, and the last.
        pricer: What it found is what they are priced by.

    Returns:
        How many were priced, or found to have no price.
    """
    connection.execute(_RATES)
    connection.execute("DELETE FROM temp.rates")
    connection.executemany(_RATE, _rates(pricer))
    asked = _asked(book, places) | {"version": version}
    return connection.execute(_INSERT, asked).rowcount


def left_over(
    connection: sqlite3.Connection, book: int, places: tuple[int, int], done: int
) -> list[Any]:
    """What is not priced of a stretch of places, with the columns `EVENT_COLUMNS`.

    Args:
        connection: In a transaction.
        book: The number of the book.
        places: The place before the first, and the last.
        done: How many are priced.
    """
    asked = _asked(book, places)
    (events,) = connection.execute(_COUNT, asked).fetchone()
    return connection.execute(_LEFT_OVER, asked).fetchall() if events > done else []


def _asked(book: int, places: tuple[int, int]) -> dict[str, Any]:
    return {"book": book, "behind": places[0], "through": places[1], "type": EVENT_TYPE}


def _rates(pricer: Pricer) -> Iterator[tuple[Any, ...]]:
    """What the pricer has found so far, where it is as plain as the events."""
    for (provider, model, tier), found in pricer.found.items():
        taken: list[Found] = []
        for each in found if len(found) <= _FEW else ():
            # Of two that hold at once the pricer takes the first.
            if each.since >= each.until or any(
                each.since < other.until and other.since < each.until for other in taken
            ):
                continue
            taken.append(each)
            named = (model or "", provider or "", tier or "", each.since, each.until)
            yield from ((*named, *rate) for rate in _rates_of(each, pricer))


def _rates_of(found: Found, pricer: Pricer) -> Iterator[tuple[Any, ...]]:
    if found.why is not None:
        number = pricer.cards.known.get(found.why)
        if number is not None:
            yield -1, _MOST, number, False, *(None for _ in _KINDS)
        return
    bounds = [-1, *(above for above, _ in found.cards[1:]), _MOST]
    if bounds != sorted(set(bounds)):
        return
    for position, (_, card) in enumerate(found.cards):
        number = pricer.cards.known.get(card.name)
        rates = [card.rate(kind) for kind in _KINDS]
        fits = all(rate is None or (type(rate) is int and 0 <= rate <= _DEAREST) for rate in rates)
        if number is not None and card.is_plain and fits:
            yield bounds[position], bounds[position + 1], number, True, *rates
