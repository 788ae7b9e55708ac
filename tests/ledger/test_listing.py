"""The events of a ledger, listed: the latest first, whichever way they lie."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.errors import QueryError
from llm_metering.ledger import EventQuery, Ledger, _listing
from tests.factories import NOON, batch_of, make_event
from tests.ledger.test_migrations import old_ledger
from tests.ledger.test_query_laws import ledger_of

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, tzinfo=UTC)

moments = st.integers(0, 40).map(lambda hours: START + timedelta(hours=hours))
ids = st.text("ab_%", min_size=1, max_size=4)


def event(number: int, id: str, moment: datetime, subject: str) -> dict:
    """A CloudEvent, with an id that no other has."""
    return {
        "specversion": "1.0",
        "id": f"{id}-{number}",
        "source": "tests",
        "type": "llm.usage",
        "subject": subject,
        "time": moment.isoformat(),
        "data": {"total_tokens": number},
    }


@st.composite
def event_lists(draw):
    given_ = draw(st.lists(st.tuples(ids, moments, st.sampled_from("xyz")), max_size=40))
    return [event(number, *each) for number, each in enumerate(given_)]


@st.composite
def queries(draw):
    optional = st.none() | moments
    return EventQuery(
        start=draw(optional),
        end=draw(optional),
        arrived_from=draw(optional),
        arrived_before=draw(optional),
        id=draw(st.none() | ids),
        subject=draw(st.none() | st.sampled_from("xyzo")),
        limit=draw(st.integers(1, 12)),
    )


def arrive(ledger: Ledger, events: list[dict], clock: list[datetime]) -> dict[str, datetime]:
    """Say of events that they came by a clock that may be set back; when each did."""
    arrived = {}
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.execute("DELETE FROM arrivals")
        for place, (each, moment) in enumerate(zip(events, clock, strict=False), 1):
            micros = int(moment.timestamp()) * 1_000_000
            connection.execute("INSERT INTO arrivals VALUES (?, ?)", (place, micros))
            arrived[each["id"]] = moment
        if clock:
            arrived |= {each["id"]: clock[-1] for each in events[len(clock) :]}
    return arrived


def within(moment, first, behind):
    if moment is None:
        return first is None and behind is None
    return (first is None or moment >= first) and (behind is None or moment < behind)


def expected(events, query, arrived):
    chosen = [
        (datetime.fromisoformat(each["time"]), place, each["id"])
        for place, each in enumerate(events)
        if within(datetime.fromisoformat(each["time"]), query.start, query.end)
        and within(arrived.get(each["id"]), query.arrived_from, query.arrived_before)
        and (query.id is None or query.id in each["id"])
        and query.subject in (None, each["subject"])
    ]
    return [id for _, _, id in sorted(chosen, reverse=True)[: query.limit]]


@settings(max_examples=80, deadline=None)
@given(
    events=event_lists(),
    asked=st.lists(queries(), min_size=1, max_size=6),
    fold_at=st.integers(1, 12),
    clock=st.lists(moments, min_size=1, max_size=40),
)
def test_the_latest_events_that_fit_are_listed(events, asked, fold_at, clock):
    """Folded or recent, in any order of time, whenever they came, wherever their subject's are."""
    with ledger_of(events, fold_at=fold_at) as ledger:
        arrived = arrive(ledger, events, clock) if events else {}
        by_id = {each["id"]: each for each in events}
        for query in asked:
            listed = ledger.events(query)
            assert [each.id for each in listed] == expected(events, query, arrived)
            assert [each.to_dict() for each in listed] == [by_id[each.id] for each in listed]
            assert [each.arrived_at for each in listed] == [arrived[each.id] for each in listed]


@settings(max_examples=30, deadline=None)
@given(events=event_lists(), fold_at=st.integers(1, 12))
def test_subjects_are_listed_with_their_first_and_last_time(events, fold_at):
    """Each one that there are events of, be they folded or recent."""
    with ledger_of(events, fold_at=fold_at) as ledger:
        times = {}
        for each in events:
            times.setdefault(each["subject"], []).append(datetime.fromisoformat(each["time"]))
        assert ledger.subjects() == {
            subject: (min(times[subject]), max(times[subject])) for subject in sorted(times)
        }


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5])
def test_of_events_of_an_older_library_nobody_knows_when_they_came(tmp_path, schema):
    """Read as it is, and once it was brought up: there it is known of new events alone."""
    events = [
        make_event(subject=name, time=NOON + number * DAY) for number, name in enumerate("ab")
    ]
    path = old_ledger(tmp_path / "old.db", *events, schema=schema)
    with closing(Ledger(path)) as ledger:
        listed = ledger.events(EventQuery())
        assert [(each.subject, each.arrived_at) for each in listed] == [("b", None), ("a", None)]
        assert [each.subject for each in ledger.events(EventQuery(subject="a"))] == ["a"]
        assert list(ledger.subjects()) == ["a", "b"]
        with pytest.raises(QueryError, match="when it came"):
            ledger.events(EventQuery(arrived_from=NOON))

        before = datetime.now(UTC).replace(microsecond=0)
        ledger.deliver(batch_of([make_event(subject="c", time=NOON - DAY)]))
        after = datetime.now(UTC)

        [*_, latest] = ledger.events(EventQuery())
        assert latest.subject == "c"
        assert before <= latest.arrived_at <= after
        assert [each.subject for each in ledger.events(EventQuery(arrived_from=before))] == ["c"]
        assert ledger.events(EventQuery(arrived_before=before)) == []


def test_an_event_whose_body_was_given_up_is_listed_without_its_data(tmp_path):
    """What its columns say is still there."""
    given_ = make_event(time=NOON - 400 * DAY)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(batch_of([given_]))
        ledger.prune(NOON - 300 * DAY)
        [listed] = ledger.events(EventQuery())
    assert listed.payload is None
    assert listed.to_dict() == {
        "specversion": "1.0",
        "id": given_.id,
        "source": "tests",
        "type": "llm.usage",
        "subject": "customer-42",
        "time": "2025-10-17T12:00:00Z",
    }


def test_an_empty_ledger_lists_nothing(tmp_path):
    """Neither events nor subjects, and it makes no file."""
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        assert ledger.events(EventQuery()) == []
        assert ledger.subjects() == {}
    assert not (tmp_path / "ledger.db").exists()


def test_what_takes_too_long_is_broken_off(tmp_path):
    """A part of an id is looked for in all events of a period; the ledger answers on afterwards."""
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        for _ in range(10):
            ledger.deliver(batch_of([make_event() for _ in range(400)]))
        with (
            patch.object(_listing, "TIME_LIMIT", -1.0),
            pytest.raises(QueryError, match="shorter period"),
        ):
            ledger.events(EventQuery(id="nowhere"))
        assert ledger.events(EventQuery(id="nowhere")) == []


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 1001}, {"start": datetime(2026, 1, 1)}], ids=str
)
def test_a_query_that_makes_no_sense_is_refused(wrong):
    """Of none, of too many, of a moment that is another one elsewhere."""
    with pytest.raises(QueryError):
        EventQuery(**wrong)
