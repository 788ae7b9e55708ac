"""Usage by hour, subject and model, as a ledger has it and as it is added up by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import datetime, timedelta

from llm_metering.events import EVENT_TYPE, UsageEvent, encode
from llm_metering.ledger import Ledger
from llm_metering.meters import usage_query
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, make_event

Key = tuple[str, str, str]
"""Hour, subject, model."""
Row = dict[str, int | None]
Hours = dict[Key, Row]

METERS = {
    "calls": "calls_total",
    "input_tokens": "tokens_input",
    "output_tokens": "tokens_output",
    "cache_read_input_tokens": "tokens_cached",
    "total_tokens": "tokens_total",
}
"""The meter of a ledger for each column that has one."""

COUNTED = ("events", "events_without_input", "events_without_output")
"""The columns that no meter has."""

COLUMNS = (*METERS, *COUNTED)

SUBJECTS = ("customer-42", "Müller & Söhne 🏭", 'it\'s "quoted" \\')
MODELS = ("gpt-5-mini", "gpt-5-mini", None)
USAGES = (
    TokenUsage(input_tokens=100, output_tokens=20, cache_read_input_tokens=64),
    TokenUsage(input_tokens=7, output_tokens=0),
    TokenUsage(input_tokens=5),
    TokenUsage(output_tokens=11),
    TokenUsage(input_tokens=2**33, output_tokens=2**33),
    None,
)
_WITHIN_AN_HOUR = (0, 1, 1_800_000, 3_599_999)


def some_events(number: int, *, seed: int) -> list[UsageEvent]:
    """Events of two days in no order of time, of which a fifth come again at any later place."""
    chance = random.Random(seed)
    sent = [
        make_event(
            source=chance.choice(["app", "another app"]),
            subject=chance.choice(SUBJECTS),
            model=chance.choice(MODELS),
            time=NOON
            - timedelta(hours=chance.randrange(48))
            + timedelta(milliseconds=chance.choice(_WITHIN_AN_HOUR)),
            usage=chance.choice(USAGES),
        )
        for _ in range(number)
    ]
    sent += [
        # The same id of another application is another event.
        make_event(id=sent[0].id, source="a third app"),
        # No call, and no tokens.
        make_event(usage=None, provenance="reported", model=None, quantity=3, unit="searches"),
        # Not one of ours.
        make_event(type="llm.other"),
    ]
    for event in chance.sample(sent, len(sent) // 5):
        sent.insert(chance.randrange(sent.index(event) + 1, len(sent) + 1), event)
    return sent


def ledger_hours(ledger: Ledger) -> Hours:
    """What a ledger says; a sum of nothing that is known has no row there."""
    hours: Hours = {}
    for column, meter in METERS.items():
        query = usage_query(meter, window="HOUR", group_by=("subject", "model"))
        for row in ledger.query(query).rows:
            key = key_of(row.window_start, row.subject, row.group_by["model"])
            hours.setdefault(key, dict.fromkeys(METERS))[column] = row.value
    return hours


def added_up(events: Iterable[UsageEvent]) -> Hours:
    """The same added up here: each event once, and a sum of nothing that is known is unknown."""
    hours: Hours = {}
    once = {(event.source, event.id): event for event in events if event.type == EVENT_TYPE}
    for event in once.values():
        data = json.loads(encode(event))["data"]
        hour = event.time.replace(minute=0, second=0, microsecond=0)
        row = hours.setdefault(
            key_of(hour, event.subject, event.model),
            dict.fromkeys(METERS) | dict.fromkeys(COUNTED, 0),
        )
        found = {column: data[column] for column in METERS if column in data} | {
            "events": 1,
            "events_without_input": "input_tokens" not in data,
            "events_without_output": "output_tokens" not in data,
        }
        for column, value in found.items():
            row[column] = (row[column] or 0) + value
    return hours


def of_meters(hours: Hours) -> Hours:
    """What meters of a ledger say of the same: nothing, where nothing is known."""
    rows = {key: {column: row[column] for column in METERS} for key, row in hours.items()}
    return {key: row for key, row in rows.items() if any(each is not None for each in row.values())}


def key_of(hour: datetime, subject: str | None, model: str | None) -> Key:
    """The key of a row, in which an hour that is none of UTC would show."""
    written = hour.strftime("%Y-%m-%dT%H") if hour.minute == 0 else hour.isoformat()
    return written, subject or "", model or ""
